//! What a machine in recovery tells over HTTP, without asking who wants to know: why it does not boot, and what it will do. It offers `GET /` as
//! text and `GET /status.json`; there is nothing else, and nothing that changes anything.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

pub const PORT: u16 = 80;
/// Of a request's head; what is longer is refused.
const MOST_BYTES: usize = 4096;
/// One after the other is answered, and none may take longer.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct Page {
    pub text: String,
    pub json: String,
}

impl Page {
    pub fn new(text: String, reasons: &[String], reboot_after: Option<u32>) -> Self {
        let list = reasons.iter().map(|reason| quote(reason)).collect::<Vec<_>>().join(",");
        let next = reboot_after.map_or("null".to_owned(), |seconds| seconds.to_string());
        let version = quote(kedge_config::VERSION);
        let json = format!(
            "{{\"state\":\"recovery\",\"version\":{version},\"rebootsAfterSeconds\":{next},\"reasons\":[{list}]}}\n"
        );
        Self { text, json }
    }
}

/// A JSON string (RFC 8259, 7).
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if u32::from(control) < 0x20 => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// Answers for ever. Returns only where the port cannot be had.
pub fn serve(page: &Page) -> io::Error {
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    loop {
        match listener.accept() {
            // Who goes away in between is no concern of ours.
            Ok((stream, _)) => drop(answer(stream, page)),
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}

fn answer(mut stream: TcpStream, page: &Page) -> io::Result<()> {
    let start = Instant::now();
    let mut head = Vec::new();
    let mut piece = [0; 512];
    stream.set_write_timeout(Some(PATIENCE))?;
    while !head.windows(4).any(|four| four == b"\r\n\r\n") && head.len() <= MOST_BYTES {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => head.extend(piece.iter().take(count)),
        }
    }
    stream.write_all(response(&head, page).as_bytes())
}

fn response(head: &[u8], page: &Page) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, path) {
        _ if head.len() > MOST_BYTES => {
            ("431 Request Header Fields Too Large", "text/plain", "the request is too long\n")
        }
        ("GET" | "HEAD", "/") => ("200 OK", "text/plain; charset=utf-8", page.text.as_str()),
        ("GET" | "HEAD", "/status.json") => ("200 OK", "application/json", page.json.as_str()),
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "in recovery there is / and /status.json\n"),
        _ => ("405 Method Not Allowed", "text/plain", "in recovery nothing can be changed over the network\n"),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\nAllow: GET, HEAD\r\nConnection: close\r\n\r\n"
    );
    if method == "HEAD" { head } else { head + body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page::new("why\n".into(), &["slot a: \"x\\y\"\n".into()], Some(30))
    }

    #[test]
    fn what_there_is_is_told_and_nothing_can_be_changed() {
        let told = |request: &str| response(request.as_bytes(), &page());
        assert!(told("GET / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nwhy\n"));
        assert!(told("HEAD / HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        assert!(told("GET /etc/passwd HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        for request in ["POST / HTTP/1.1\r\n\r\n", "PUT /slot HTTP/1.1\r\n\r\n", "", "\r\n\r\n", "GET"] {
            let answer = told(request);
            assert!(answer.starts_with("HTTP/1.1 405 ") || answer.starts_with("HTTP/1.1 404 "), "{request}: {answer}");
        }
        assert!(told(&"x".repeat(MOST_BYTES + 1)).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn the_document_is_json() {
        assert_eq!(
            page().json,
            format!(
                "{{\"state\":\"recovery\",\"version\":\"{}\",\"rebootsAfterSeconds\":30,\"reasons\":[\"slot a: \\\"x\\\\y\\\"\\u000a\"]}}\n",
                kedge_config::VERSION
            )
        );
    }
}
