//! Reading and writing without sockets.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn query(name: &str, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), WireType::A));
    if let Some(payload) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn question(bytes: &[u8]) -> Question {
    match read(bytes) {
        Received::Question(question) => question,
        other => panic!("{other:?}"),
    }
}

fn addresses(count: u8) -> ZoneAnswer {
    let record = |n| Record { name: "many.svc".into(), ttl: 5, data: Data::A(Ipv4Addr::new(10, 42, 0, n)) };
    ZoneAnswer::Records((1..=count).map(record).collect())
}

#[test]
fn names_are_plain_and_limits_are_the_clients() {
    let plain = question(&query("WEB.Default.svc.Cluster.Local.", None));
    assert_eq!((plain.name.as_str(), plain.udp_limit()), ("web.default.svc.cluster.local", 512));
    assert_eq!(question(&query("a.", Some(4096))).udp_limit(), 1232);
    assert_eq!(question(&query("a.", Some(100))).udp_limit(), 512);
    assert_eq!(question(&query(".", None)).name, "");
}

#[test]
fn a_zones_answers_are_told_apart() {
    let question = question(&query("web.svc.", Some(1232)));
    let apex = || Some(Authority { apex: "cluster.local".into(), negative_ttl: 5 });
    let found = question.answer_of_zone(addresses(2), apex()).unwrap();
    assert_eq!((found.answers.len(), found.authorities.len()), (2, 0));
    assert!(found.metadata.authoritative && found.metadata.recursion_available);
    let none = question.answer_of_zone(ZoneAnswer::NoData, apex()).unwrap();
    assert_eq!((none.metadata.response_code, none.authorities.len()), (ResponseCode::NoError, 1));
    let unknown = question.answer_of_zone(ZoneAnswer::NxDomain, None).unwrap();
    assert_eq!((unknown.metadata.response_code, unknown.authorities.len()), (ResponseCode::NXDomain, 0));
    assert!(question.answer_of_zone(ZoneAnswer::NotMine, None).is_none());
}

#[test]
fn long_answers_are_cut_to_what_fits() {
    for (edns, count) in [(None, 200), (Some(1232), 200), (Some(1232), 2)] {
        let question = question(&query("many.svc.", edns));
        let message = question.answer_of_zone(addresses(count), None).unwrap();
        let bytes = encode(message.clone(), question.udp_limit()).unwrap();
        let cut = Message::from_vec(&bytes).unwrap();
        assert!(bytes.len() <= question.udp_limit());
        assert_eq!(cut.metadata.truncation, count == 200);
        assert!(bytes.len() > question.udp_limit() / 2 || count == 2, "{} bytes used", bytes.len());
        assert_eq!(cut.edns.is_some(), edns.is_some());
        let whole = Message::from_vec(&encode(message, 65535).unwrap()).unwrap();
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (usize::from(count), false));
    }
}

#[test]
fn what_is_no_question_is_refused_or_ignored() {
    let mut answer = query("a.", None);
    answer[2] |= 0x80;
    assert!(matches!(read(&answer), Received::Ignore));
    assert!(matches!(read(&[0; 11]), Received::Ignore));
    let code = |bytes: &[u8]| match read(bytes) {
        Received::Refuse(message) => message.metadata.response_code,
        other => panic!("{other:?}"),
    };
    let mut update = query("a.", None);
    update[2] |= 0x28;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut two = query("a.", None);
    two[5] = 2;
    assert_eq!(code(&two), ResponseCode::FormErr);
    let mut none = query("a.", None);
    none[5] = 0;
    none.truncate(12);
    assert_eq!(code(&none), ResponseCode::FormErr);
}

#[test]
fn an_answer_to_something_else_is_not_ours() {
    let asked = Query::query(Name::from_ascii("a.example.").unwrap(), WireType::A);
    let mut answer = Message::new(9, MessageType::Response, OpCode::Query);
    answer.add_query(asked.clone());
    let bytes = answer.to_vec().unwrap();
    assert!(read_answer(&bytes, &asked, 9).is_some());
    assert!(read_answer(&bytes, &asked, 8).is_none());
    let other = Query::query(Name::from_ascii("b.example.").unwrap(), WireType::A);
    assert!(read_answer(&bytes, &other, 9).is_none());
    assert!(read_answer(&ask(&asked, 9).unwrap(), &asked, 9).is_none(), "an echo is no answer");
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Received::Question(question) = read(&bytes) {
            let refusal = question.answer(ResponseCode::ServFail);
            prop_assert!(encode(refusal, 512).is_some_and(|bytes| bytes.len() <= 512));
        }
    }

    #[test]
    fn damaged_queries_never_panic(changes in prop::collection::vec((0usize..60, any::<u8>()), 0..6), edns: bool) {
        let mut bytes = query("web.default.svc.cluster.local.", edns.then_some(1232));
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if let Received::Question(question) = read(&bytes)
            && let Some(message) = question.answer_of_zone(addresses(100), None)
        {
            let bytes = encode(message, question.udp_limit());
            prop_assert!(bytes.is_none_or(|bytes| bytes.len() <= question.udp_limit()));
        }
    }
}
