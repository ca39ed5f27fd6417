//! Who is at the other end: the client's address behind proxies that are trusted to tell it, and as limits count it. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network, `10.0.0.0/8`, or one address, `192.0.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether `address` lies in it; an IPv4 address written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// What stands there is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is neither an address nor a network such as 10.0.0.0/8")]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.to_owned());
        let (address, prefix) = text.trim().split_once('/').map_or((text.trim(), None), |(a, p)| (a, Some(p)));
        let address = address.parse::<IpAddr>().map_err(|_| wrong())?.to_canonical();
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.map_or(Ok(bits_max), str::parse).map_err(|_| wrong())?;
        if prefix_bits > bits_max { Err(wrong()) } else { Ok(Self { address, prefix_bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_bits)
    }
}

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, NotANetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// The client's address: that of the connection, or, where that is a trusted proxy's, the last one in `forwarded` (the
/// values of `X-Forwarded-For`, in order) that is not. What stands further left anybody can have written.
pub fn client<'a>(peer: IpAddr, forwarded: impl IntoIterator<Item = &'a str>, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let named: Vec<&str> = forwarded.into_iter().flat_map(|value| value.split(',')).collect();
    for text in named.into_iter().rev() {
        if !is_trusted(client) {
            break;
        }
        // A trusted proxy that writes something else than an address is taken for the client itself.
        let Some(address) = address_in(text.trim()) else { break };
        client = address;
    }
    client
}

/// `192.0.2.7`, `192.0.2.7:4711`, `2001:db8::7` or `[2001:db8::7]:4711`.
fn address_in(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    bare.or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

/// The number that limits count an address by: one customer of a provider holds a whole /64 of IPv6.
pub fn customer(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7/32", "::ffff:192.0.2.7", "::192.0.2.7"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(ip(inside)) && !parsed.contains(ip(outside)), "{network}");
            assert_eq!(parsed.to_string().parse::<Network>().unwrap(), parsed);
        }
        for wrong in ["", "proxy", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "::/129", "10.0.0.0/8/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_a_trusted_proxy_says_is_believed() {
        let trusted: Vec<Network> = ["127.0.0.1", "10.0.0.0/8"].iter().map(|text| text.parse().unwrap()).collect();
        for (peer, forwarded, expected) in [
            // Nobody is trusted to speak for others but the proxies.
            ("203.0.113.9", vec!["198.51.100.1"], "203.0.113.9"),
            ("127.0.0.1", vec![], "127.0.0.1"),
            ("127.0.0.1", vec!["203.0.113.9"], "203.0.113.9"),
            ("::ffff:127.0.0.1", vec!["203.0.113.9"], "203.0.113.9"),
            // What the client wrote itself stands left of what the proxy added.
            ("127.0.0.1", vec!["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", vec!["198.51.100.1", "203.0.113.9, 10.0.0.5"], "203.0.113.9"),
            ("127.0.0.1", vec!["203.0.113.9:4711"], "203.0.113.9"),
            ("127.0.0.1", vec!["[2001:db8::7]:4711"], "2001:db8::7"),
            ("127.0.0.1", vec!["[2001:db8::7]"], "2001:db8::7"),
            ("127.0.0.1", vec!["10.0.0.5"], "10.0.0.5"),
            ("127.0.0.1", vec!["203.0.113.9, unknown"], "127.0.0.1"),
            ("127.0.0.1", vec![""], "127.0.0.1"),
        ] {
            assert_eq!(client(ip(peer), forwarded.clone(), &trusted), ip(expected), "{peer} {forwarded:?}");
        }
        assert_eq!(client(ip("127.0.0.1"), ["203.0.113.9"], &[]), ip("127.0.0.1"), "nothing is trusted unasked");
    }
}
