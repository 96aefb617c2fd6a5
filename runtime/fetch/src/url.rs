//! Addresses of files: `http://`, `https://`, and `oci://` for a registry (`oci+http://` for one without TLS).

use std::fmt;

/// The longest that is taken.
const MOST: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no address of a file: {why}")]
pub struct UrlError {
    url: String,
    why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// Where an HTTP request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub scheme: Scheme,
    /// Name or address; one of IPv6 without its brackets.
    pub host: String,
    pub port: u16,
    /// With the query, if there is one.
    pub path: String,
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let wrong = |why| UrlError { url: text.chars().take(200).collect(), why };
        if text.len() > MOST {
            return Err(wrong("it is too long"));
        }
        let uri: http::Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(wrong("it begins neither with http:// nor with https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no server"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it holds a user's name: whoever reads the object would read the password"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        if host.is_empty() {
            return Err(wrong("it names no server"));
        }
        let port = match authority.as_str().rsplit_once(':') {
            // What follows the last colon of an address in brackets ends with a bracket.
            Some((_, port)) if !port.ends_with(']') => port.parse().map_err(|_| wrong("its port is none"))?,
            _ => scheme.port(),
        };
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        Ok(Self { scheme, host, port, path })
    }

    /// What a `Location` that this one answered with means (RFC 9110, 10.2.2).
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        if location.contains("://") {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme.name()));
        }
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let folder =
                self.path.split('?').next().and_then(|path| path.rsplit_once('/')).map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        };
        Self::parse(&format!("{}://{}{path}", self.scheme.name(), self.authority()))
    }

    /// As the `Host` header has it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether one connection serves both.
    pub fn same_server(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme.name(), self.authority(), self.path)
    }
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            "https://example.com/a/b.kedge",
            "http://10.0.2.2:8000/x?y=z",
            "https://[2001:db8::1]:8443/f",
            "https://[2001:db8::1]/f",
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Url::parse("HTTPS://Example.com").unwrap().to_string(), "https://example.com/");
        let v6 = Url::parse("https://[::1]/f").unwrap();
        assert_eq!((v6.host.as_str(), v6.port), ("::1", 443));
    }

    #[test]
    fn what_is_none_says_why() {
        for (text, why) in [
            ("ftp://a/b", "neither"),
            ("/a/b", "neither"),
            ("https://u:p@a/b", "password"),
            ("https://a:99999/", "port"),
            ("https://:1/", ""),
            ("https:// a/", "cannot be read"),
        ] {
            let error = Url::parse(text).unwrap_err().to_string();
            assert!(error.contains(why) && error.starts_with('"'), "{text}: {error}");
        }
        assert!(Url::parse(&format!("http://a/{}", "x".repeat(3000))).is_err());
    }

    #[test]
    fn a_location_stands_where_the_answer_stood() {
        let from = Url::parse("https://a.example/x/y?q=/1").unwrap();
        for (location, meant) in [
            ("http://b/z", "http://b/z"),
            ("//b/z", "https://b/z"),
            ("/z", "https://a.example/z"),
            ("z", "https://a.example/x/z"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), meant);
        }
    }
}
