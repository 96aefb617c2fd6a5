//! A client of the protocol, and what it gets to see.

use bytes::Buf;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;

/// Writes and reads frames.
pub struct Client<S> {
    pub connection: S,
    begun: bool,
}

/// A frame as it came: kind 0 is data.
#[derive(Debug, PartialEq)]
pub struct Frame {
    pub kind: u16,
    pub stream: u32,
    pub fin: bool,
    pub payload: Vec<u8>,
}

pub fn frame(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0x80, 3], &kind.to_be_bytes()[..], &[flags], &length[1..], payload].concat()
}

/// Headers as zlib writes them that compresses nothing.
fn block(first: bool, headers: &[(&str, &str)]) -> Vec<u8> {
    let word = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let mut text = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
    text.extend(headers.iter().flat_map(|(name, value)| [word(name), word(value)].concat()));
    let length = u16::try_from(text.len()).unwrap();
    let begin: &[u8] = if first { &[0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2] } else { &[] };
    [begin, &[0], &length.to_le_bytes(), &(!length).to_le_bytes(), &text].concat()
}

pub fn headers(list: &[(&str, &str)]) -> Headers {
    headers::Reader::default().read(&block(true, list)).unwrap()
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(connection: S) -> Self {
        Self { connection, begun: false }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.connection.write_all(bytes).await.unwrap();
        self.connection.flush().await.unwrap();
    }

    pub async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let block = block(!std::mem::replace(&mut self.begun, true), headers);
        let payload = [&stream.to_be_bytes()[..], &[0; 6], &block].concat();
        self.write(&super::tests::frame(frame::SYN_STREAM, 0, &payload)).await;
    }

    pub async fn data(&mut self, stream: u32, fin: bool, data: &[u8]) {
        self.write(&[&super::frame::data(stream, fin, data.len())[..], data].concat()).await;
    }

    /// `None`: the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut bytes = [0; HEAD];
        self.connection.read_exact(&mut bytes).await.ok()?;
        let head = super::frame::head(bytes);
        let (Head::Data { length, .. } | Head::Control { length, .. }) = head;
        let mut payload = vec![0; length];
        self.connection.read_exact(&mut payload).await.ok()?;
        Some(match head {
            Head::Data { stream, fin, .. } => Frame { kind: 0, stream, fin, payload },
            Head::Control { kind, flags, .. } => {
                let mut payload = &payload[..];
                let stream = payload.get_u32();
                Frame { kind, stream, fin: flags & frame::FIN != 0, payload: payload.to_vec() }
            }
        })
    }
}

fn begun(check: Check) -> (Client<DuplexStream>, mpsc::Receiver<Opened>, Arc<dyn Mux>, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (reader, opened, mux) = begin(theirs, check);
    (Client::new(ours), opened, mux, tokio::spawn(reader.run()))
}

const REPLY: u16 = 2;

#[tokio::test]
async fn streams_carry_data_both_ways_to_their_ends() {
    let (mut client, mut opened, mux, reader) = begun(|_| true);
    client.open(1, &[("streamtype", "data"), ("port", "80")]).await;
    client.open(3, &[("streamtype", "error")]).await;
    let (mut data, error) = (opened.recv().await.unwrap(), opened.recv().await.unwrap());
    assert_eq!((data.id, data.headers.get("port"), error.headers.get("streamtype")), (1, Some("80"), Some("error")));
    for (stream, length) in [(1, 16), (3, 14)] {
        let reply = client.next().await.unwrap();
        assert_eq!((reply.kind, reply.stream, reply.payload.len()), (REPLY, stream, length));
    }
    client.data(1, false, b"hello").await;
    assert_eq!(data.input.next().await.unwrap(), "hello");
    client.data(1, true, b"!").await;
    assert_eq!(data.input.next().await.unwrap(), "!");
    assert_eq!(data.input.next().await, None);
    data.output.send(b"there").await.unwrap();
    data.output.end().await.unwrap();
    assert_eq!(client.next().await, Some(Frame { kind: 0, stream: 1, fin: false, payload: b"there".to_vec() }));
    assert_eq!(client.next().await, Some(Frame { kind: 0, stream: 1, fin: true, payload: vec![] }));
    client.write(&frame::ping(7)).await;
    assert_eq!(client.next().await, Some(Frame { kind: frame::PING, stream: 7, fin: false, payload: vec![] }));
    mux.close().await.unwrap();
    assert_eq!(client.next().await, Some(Frame { kind: frame::GOAWAY, stream: 3, fin: false, payload: vec![0; 4] }));
    client.write(&frame::goaway(0, Goodbye::Ok)).await;
    reader.await.unwrap();
}

#[tokio::test]
async fn taken_bytes_are_told_and_untaken_ones_hold_back() {
    let (mut client, mut opened, _mux, _reader) = begun(|_| true);
    client.open(1, &[]).await;
    let mut stream = opened.recv().await.unwrap();
    client.next().await.unwrap();
    client.data(1, false, &[7; 40 << 10]).await;
    let update = |stream| Frame { kind: 9, stream, fin: false, payload: (32u32 << 10).to_be_bytes().to_vec() };
    assert_eq!([client.next().await, client.next().await], [Some(update(1)), Some(update(0))]);
    // Far more than may wait, and more than the pipe between holds: written out only as it is taken.
    let all = 3 << 20;
    let writing = tokio::spawn(async move {
        client.data(1, true, &vec![7; all]).await;
        client
    });
    let mut taken = 0;
    while let Some(data) = stream.input.next().await {
        taken += data.len();
    }
    assert_eq!(taken, all + (40 << 10));
    writing.await.unwrap();
}

#[tokio::test]
async fn streams_that_are_not_welcome_are_reset() {
    let (mut client, mut opened, _mux, _reader) = begun(|headers| headers.get("port").is_some());
    let reset = |stream, why: Reset| Frame {
        kind: frame::RST_STREAM,
        stream,
        fin: false,
        payload: (why as u32).to_be_bytes().to_vec(),
    };
    for (stream, headers, why) in [
        (1, &[][..], Reset::Cancel),
        (1, &[("port", "1")][..], Reset::ProtocolError),
        (2, &[("port", "1")][..], Reset::ProtocolError),
    ] {
        client.open(stream, headers).await;
        assert_eq!(client.next().await, Some(reset(stream, why)));
    }
    let mut kept = Vec::new();
    for stream in (5..).step_by(2).take(STREAMS) {
        client.open(stream, &[("port", "1")]).await;
        kept.push(opened.recv().await.unwrap());
        assert_eq!(client.next().await.unwrap().kind, REPLY);
    }
    let next = 5 + 2 * u32::try_from(STREAMS).unwrap();
    client.open(next, &[("port", "1")]).await;
    assert_eq!(client.next().await, Some(reset(next, Reset::RefusedStream)));
    kept.pop();
    client.open(next + 2, &[("port", "1")]).await;
    assert_eq!(client.next().await.unwrap().kind, REPLY);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let long = frame(frame::SYN_STREAM, 0, &vec![0; frame::LONGEST_CONTROL + 1]);
    for wrong in [
        &frame(frame::SYN_STREAM, 0, &[0, 0, 0, 1])[..],
        &frame(frame::SYN_STREAM, 0, &[1; 40]),
        &frame(frame::RST_STREAM, 0, &[1]),
        &frame(frame::HEADERS, 0, &[]),
        &long,
    ] {
        let (mut client, _opened, _mux, reader) = begun(|_| true);
        // What is not known is passed over.
        client.write(&frame(4, 0, &[0; 4])).await;
        client.data(9, false, b"of no stream").await;
        client.write(wrong).await;
        let last = client.next().await.unwrap();
        assert_eq!((last.kind, &last.payload[..]), (frame::GOAWAY, &[0, 0, 0, 1][..]), "{wrong:?}");
        reader.await.unwrap();
    }
}
