//! HTTP as these suites need it: every status is an answer, bodies are bytes or JSON, nothing waits for ever.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in answer {}: {}", self.status, self.text()),
        }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client with a pool of connections of its own.
#[derive(Debug, Clone)]
pub struct Client(ureq::Agent);

impl Client {
    /// A client that waits for an answer this long.
    pub fn new(patience: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(patience))
            .proxy(None)
            .max_redirects(0)
            .build();
        Self(config.new_agent())
    }

    /// Sends a request; `token` goes as a bearer token unless it is empty.
    ///
    /// # Errors
    /// When no whole answer came: nobody knows whether the server acted on the request.
    pub fn send(&self, method: &str, url: &str, token: &str, kind: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let mut answer = if body.is_empty() && kind.is_empty() {
            self.0.run(request.body(()).map_err(ureq::Error::Http)?)?
        } else {
            self.0.run(request.body(body).map_err(ureq::Error::Http)?)?
        };
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_vec()?;
        Ok(Answer { status, body })
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn post(&self, url: &str, token: &str, body: &Value) -> Result<Answer, ureq::Error> {
        self.send("POST", url, token, "application/json", body.to_string().as_bytes())
    }
}

/// Where one HTTP message ends, if all of it is in `bytes`; `ended` says that no more will come.
pub fn message_length(bytes: &[u8], ended: bool) -> Option<usize> {
    let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_end]);
    let status: Option<u16> = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let header = |wanted: &str| {
        let fields = head.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned()).next()
    };
    if header("transfer-encoding").is_some() {
        return chunked_length(&bytes[head_end..]).map(|length| head_end + length);
    }
    let length = match header("content-length").and_then(|text| text.parse::<usize>().ok()) {
        Some(length) => length,
        None if status.is_some_and(|status| !matches!(status, 204 | 304)) => return ended.then_some(bytes.len()),
        None => 0,
    };
    (bytes.len() >= head_end + length).then_some(head_end + length)
}

fn chunked_length(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = body[at..].windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[at..at + line]).ok()?, 16).ok()?;
        at += line + 2 + length + 2;
        if body.len() < at {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_message_is_found_where_it_is() {
        let whole: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ];
        for message in whole {
            let twice = [message, message].concat();
            assert_eq!(message_length(&twice, false), Some(message.len()));
            assert!((0..message.len()).all(|end| message_length(&message[..end], false).is_none()));
        }
        let endless = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!((message_length(endless, false), message_length(endless, true)), (None, Some(endless.len())));
    }
}
