//! Measures the network while it is used: every connection and every byte of the agent's own requests.
//!
//! No probe packets are sent: resolving, connecting and the TLS handshake are timed where they happen anyway.

use std::net::ToSocketAddrs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

/// What was measured.
#[derive(Debug, Default, Clone)]
pub struct Measured {
    /// Last name resolution.
    pub dns: Option<Duration>,
    /// Last TCP connection.
    pub tcp: Option<Duration>,
    /// Last TLS handshake.
    pub tls: Option<Duration>,
    /// Time spent on connecting in all, to be taken off a request's duration.
    pub connecting: Duration,
    /// Connections opened.
    pub connections: u32,
    /// Bytes sent, TLS included.
    pub sent_bytes: u64,
    /// Bytes received, TLS included.
    pub received_bytes: u64,
    /// IP version of the last connection.
    pub ip_version: Option<u8>,
}

/// A shared handle.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    measured: Arc<Mutex<Measured>>,
}

impl Meter {
    /// A copy of all figures.
    pub fn read(&self) -> Measured {
        self.lock().clone()
    }

    /// The counted bytes and connections; they start again at zero.
    pub fn take_counts(&self) -> (u64, u64, u32) {
        let mut measured = self.lock();
        let counts = (measured.sent_bytes, measured.received_bytes, measured.connections);
        (measured.sent_bytes, measured.received_bytes, measured.connections) = (0, 0, 0);
        counts
    }

    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An HTTP client whose connections to `host` (and bytes to anyone) are measured.
    pub fn agent(&self, config: Config, host: &str) -> ureq::Agent {
        let host: Arc<str> = Arc::from(host);
        let tcp = MeasuredTcp { inner: TcpConnector::default(), meter: self.clone(), host: host.clone() };
        let tls = MeasuredTls { inner: RustlsConnector::default(), meter: self.clone(), host: host.clone() };
        ureq::Agent::with_parts(config, tcp.chain(tls), MeasuredResolver { meter: self.clone(), host })
    }
}

fn is_for(uri: &Uri, host: &str) -> bool {
    uri.authority().is_some_and(|authority| authority.as_str() == host)
}

#[derive(Debug)]
struct MeasuredResolver {
    meter: Meter,
    host: Arc<str>,
}

impl Resolver for MeasuredResolver {
    /// Resolves on this thread: ureq's own resolver starts one more as soon as there is a deadline.
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let started = Instant::now();
        let name = uri
            .scheme()
            .zip(uri.authority())
            .and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority))
            .ok_or_else(|| ureq::Error::BadUri(uri.to_string()))?;
        let mut found = self.empty();
        let addresses_max = 16;
        for address in name.to_socket_addrs()?.take(addresses_max) {
            found.push(address);
        }
        if found.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        let took = started.elapsed();
        let mut measured = self.meter.lock();
        measured.connecting += took;
        if is_for(uri, &self.host) {
            measured.dns = Some(took);
            measured.ip_version = found.first().map(|address| if address.is_ipv6() { 6 } else { 4 });
        }
        Ok(found)
    }
}

#[derive(Debug)]
struct MeasuredTcp {
    inner: TcpConnector,
    meter: Meter,
    host: Arc<str>,
}

impl<In: Transport> Connector<In> for MeasuredTcp {
    type Out = Counted<<TcpConnector as Connector<In>>::Out>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let started = Instant::now();
        let out = self.inner.connect(details, chained)?;
        let took = started.elapsed();
        let mut measured = self.meter.lock();
        measured.connecting += took;
        measured.connections = measured.connections.saturating_add(1);
        if is_for(details.uri, &self.host) {
            measured.tcp = Some(took);
        }
        Ok(out.map(|inner| Counted { inner, meter: self.meter.clone() }))
    }
}

#[derive(Debug)]
struct MeasuredTls {
    inner: RustlsConnector,
    meter: Meter,
    host: Arc<str>,
}

impl<In: Transport> Connector<In> for MeasuredTls {
    type Out = <RustlsConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let started = Instant::now();
        let out = self.inner.connect(details, chained)?;
        if details.needs_tls() {
            let took = started.elapsed();
            let mut measured = self.meter.lock();
            measured.connecting += took;
            if is_for(details.uri, &self.host) {
                measured.tls = Some(took);
            }
        }
        Ok(out)
    }
}

/// A connection whose bytes are counted.
#[derive(Debug)]
struct Counted<T> {
    inner: T,
    meter: Meter,
}

impl<T: Transport> Transport for Counted<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.inner.transmit_output(amount, timeout)?;
        self.meter.lock().sent_bytes += amount as u64;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let before = self.inner.buffers().input().len();
        let progress = self.inner.await_input(timeout)?;
        let after = self.inner.buffers().input().len();
        self.meter.lock().received_bytes += after.saturating_sub(before) as u64;
        Ok(progress)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
