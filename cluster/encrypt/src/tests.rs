use kedge_api::metrics::{Form, Source as _, Text};
use kedge_api::resource::known::{CONFIG_MAPS, DEPLOYMENTS, SECRETS};
use proptest::prelude::*;

use super::*;

const PLAIN: &[u8] = b"{\"kind\":\"Secret\"}";
const PLACE: &str = "/registry/secrets/default/a";
const ALL: [Cipher; 3] = [Cipher::AesGcm, Cipher::AesCbc, Cipher::Secretbox];

fn key(length: usize) -> Vec<u8> {
    (0..=255).take(length).collect()
}

fn keys(cipher: Cipher, named: &[(&str, &[u8])]) -> Arc<Provider> {
    let keys = named.iter().map(|(name, key)| NamedKey::new(cipher, name, key).unwrap()).collect();
    Arc::new(Provider::Keys(cipher, keys))
}

fn of_secrets(providers: Vec<Arc<Provider>>) -> Keyring {
    Keyring::new([(Pattern::parse("secrets"), providers)]).unwrap()
}

fn open(ring: &Keyring, stored: &[u8]) -> Result<(Vec<u8>, bool), String> {
    match ring.open(&SECRETS, PLACE, stored) {
        Ok(Opened { plain, stale }) => Ok((plain.into_owned(), stale)),
        Err(error) => Err(error.to_string()),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Made by libsodium and OpenSSL through Python's PyNaCl and cryptography: keys, nonces and IVs count up from 0.
#[test]
fn what_others_sealed_is_read() {
    let cases = [
        (
            Cipher::Secretbox,
            32,
            "000102030405060708090a0b0c0d0e0f101112131415161704ea051d45311f98b1b8fa426fca41d025dd5326a9ae802a996fea5d1aea3eb52f",
        ),
        (
            Cipher::AesGcm,
            16,
            "000102030405060708090a0be84ecca7087fd56e698104e944c6042ace7e84d2036f2a01dc1244e2abe6bee5b9",
        ),
        (
            Cipher::AesGcm,
            24,
            "000102030405060708090a0b9ddb49f2f7ddeb34f260b9e18dcca8527323f185148b3d5cfc7e8d3792e19f1f89",
        ),
        (
            Cipher::AesGcm,
            32,
            "000102030405060708090a0b3c20bd72ab81e021af12f2e8c38c0c4ffe1088c8292577bb0a7c5fec9690e03563",
        ),
        (
            Cipher::AesCbc,
            16,
            "000102030405060708090a0b0c0d0e0f94df35c9b979736106b2d20e6a3786e72f403092c183f595f88d341b9723ca6c",
        ),
        (
            Cipher::AesCbc,
            24,
            "000102030405060708090a0b0c0d0e0f6229a9da7d922425d89a7984ea95f5395f484790e2f4e48004b9c24f650d96a9",
        ),
        (
            Cipher::AesCbc,
            32,
            "000102030405060708090a0b0c0d0e0f1e99f42a87db9ef8ab2a289efc82058d9b6df3c3b806157e27663d659124bb7a",
        ),
    ];
    for (cipher, length, sealed) in cases {
        let ring = of_secrets(vec![keys(cipher, &[("k", &key(length))])]);
        let stored = [format!("k8s:enc:{}:v1:k:", cipher.name()).as_bytes(), &bytes(sealed)].concat();
        assert_eq!(open(&ring, &stored), Ok((PLAIN.to_vec(), false)), "{cipher:?} {length}");
    }
}

#[test]
fn a_sealed_value_is_marked_and_never_twice_the_same() {
    for cipher in ALL {
        for length in cipher.key_lengths() {
            let ring = of_secrets(vec![keys(cipher, &[("k:1", &key(*length))])]);
            let [one, two] = [0, 1].map(|_| ring.seal(&SECRETS, PLACE, PLAIN).unwrap().into_owned());
            assert!(one.starts_with(format!("k8s:enc:{}:v1:k:1:", cipher.name()).as_bytes()));
            assert!(one != two && !one.windows(PLAIN.len()).any(|part| part == PLAIN));
            assert_eq!(open(&ring, &one), Ok((PLAIN.to_vec(), false)));
        }
    }
}

#[test]
fn the_first_provider_and_its_first_key_write_and_all_read() {
    let (old, new) = (key(32), [7; 32]);
    let before = of_secrets(vec![keys(Cipher::AesCbc, &[("old", &old)]), Arc::new(Provider::Identity)]);
    let sealed = before.seal(&SECRETS, PLACE, PLAIN).unwrap();
    let both = keys(Cipher::AesCbc, &[("new", &new), ("old", &old)]);
    let rotated = of_secrets(vec![both.clone(), Arc::new(Provider::Identity)]);
    assert_eq!(rotated.writes(&SECRETS).unwrap(), "aescbc key \"new\"");
    assert_eq!(open(&rotated, &sealed), Ok((PLAIN.to_vec(), true)));
    assert_eq!(open(&rotated, PLAIN), Ok((PLAIN.to_vec(), true)));
    assert_eq!(open(&rotated, &rotated.seal(&SECRETS, PLACE, PLAIN).unwrap()), Ok((PLAIN.to_vec(), false)));
    let ways: Vec<_> = rotated.ways().map(|Way { provider, key, writes, .. }| (provider, key, writes)).collect();
    assert_eq!(ways, [("aescbc", Some("new"), true), ("aescbc", Some("old"), false), ("identity", None, false)]);
    // On the way back: what is encrypted is read by those behind.
    let leaving = of_secrets(vec![Arc::new(Provider::Identity), both]);
    assert_eq!((leaving.writes(&SECRETS), &*leaving.seal(&SECRETS, PLACE, PLAIN).unwrap()), (None, PLAIN));
    assert_eq!(open(&leaving, &sealed), Ok((PLAIN.to_vec(), true)));
    // One cipher twice, each with a key of its own.
    let apart = of_secrets(vec![keys(Cipher::AesCbc, &[("new", &new)]), keys(Cipher::AesCbc, &[("old", &old)])]);
    assert_eq!(open(&apart, &sealed), Ok((PLAIN.to_vec(), true)));
}

#[test]
fn what_cannot_be_read_is_told_as_upstream_tells_it() {
    let ring = |cipher| of_secrets(vec![keys(cipher, &[("k", &key(32))])]);
    for (cipher, stored, expected) in [
        (
            Cipher::AesGcm,
            &b"k8s:enc:aesgcm:v1:other:xxxx"[..],
            "no matching key was found for the provided AES transformer",
        ),
        (
            Cipher::Secretbox,
            b"k8s:enc:secretbox:v1:o:x",
            "no matching key was found for the provided Secretbox transformer",
        ),
        (Cipher::AesGcm, b"k8s:enc:secretbox:v1:k:x", "no matching prefix found"),
        (Cipher::AesGcm, b"{}", "no matching prefix found"),
        (Cipher::AesGcm, b"k8s:enc:aesgcm:v1:k:short", "the stored data was shorter than the required size"),
        (Cipher::Secretbox, b"k8s:enc:secretbox:v1:k:short", "the stored data was shorter than the required size"),
        (
            Cipher::AesCbc,
            b"k8s:enc:aescbc:v1:k:0123456789abcdefx",
            "the stored data is not a multiple of the block size",
        ),
    ] {
        assert_eq!(open(&ring(cipher), stored), Err(expected.to_owned()), "{cipher:?}");
    }
    assert_eq!(open(&Keyring::default(), b"k8s:enc:aesgcm:v1:k:x"), Err("no matching prefix found".to_owned()));
    assert_eq!(open(&Keyring::default(), PLAIN), Ok((PLAIN.to_vec(), false)));
    // The wrong key of the right name.
    let other = of_secrets(vec![keys(Cipher::Secretbox, &[("k", &[9; 32])])]);
    let sealed = ring(Cipher::Secretbox).seal(&SECRETS, PLACE, PLAIN).unwrap().into_owned();
    assert_eq!(open(&other, &sealed), Err("output array was not large enough for encryption".to_owned()));
    let gcm = ring(Cipher::AesGcm);
    let elsewhere = gcm.seal(&SECRETS, "/registry/secrets/default/b", PLAIN).unwrap();
    assert_eq!(open(&gcm, &elsewhere), Err("cipher: message authentication failed".to_owned()));
}

#[test]
fn the_narrowest_rule_is_a_resources_own() {
    let named = |name: &str| vec![keys(Cipher::AesGcm, &[(name, &key(16))])];
    let ring = Keyring::new([
        (Pattern::parse("configmaps"), vec![Arc::new(Provider::Identity)]),
        (Pattern::parse("widgets.example.com"), named("own")),
        (Pattern::parse("*.example.com"), named("group")),
        (Pattern::parse("*."), named("core")),
        (Pattern::parse("*.*"), named("all")),
    ])
    .unwrap();
    let custom = |name: &'static str| GroupResource::of("example.com", name);
    for (resource, expected) in [
        (CONFIG_MAPS, None),
        (SECRETS, Some("core")),
        (custom("widgets"), Some("own")),
        (custom("gadgets"), Some("group")),
        (DEPLOYMENTS, Some("all")),
    ] {
        let expected = expected.map(|name| format!("aesgcm key {name:?}"));
        assert_eq!(ring.writes(&resource), expected, "{resource}");
    }
    assert_eq!(of_secrets(named("k")).writes(&CONFIG_MAPS), None);
}

#[test]
fn a_rule_behind_a_wider_one_is_refused() {
    let refused = |rules: &[&str]| {
        let rules = rules.iter().map(|rule| (Pattern::parse(rule), vec![Arc::new(Provider::Identity)]));
        Keyring::new(rules).err().map(|masked| masked.to_string())
    };
    assert_eq!(refused(&["secrets", "*.", "deployments.apps", "*.*"]), None);
    for (rules, expected) in [
        (&["*.", "secrets"][..], "resource \"secrets\" is masked by earlier rule \"*.\""),
        (&["*.apps", "deployments.apps"], "resource \"deployments.apps\" is masked by earlier rule \"*.apps\""),
        (&["*.*", "*."], "resource \"*.\" is masked by earlier rule \"*.*\""),
    ] {
        assert_eq!(refused(rules).as_deref(), Some(expected));
    }
}

#[test]
fn a_key_of_a_wrong_length_is_refused_and_none_is_shown() {
    for cipher in ALL {
        assert!(NamedKey::new(cipher, "k", &key(31)).is_err());
    }
    let why = NamedKey::new(Cipher::AesGcm, "k", &key(3)).unwrap_err().to_string();
    assert_eq!(why, "secret is not of the expected length, got 3, expected one of [16, 24, 32]");
    let ring = of_secrets(vec![keys(Cipher::Secretbox, &[("named", &[0x61; 32])])]);
    let shown = format!("{ring:?}");
    assert!(shown.contains("named") && !shown.contains("97, 97") && !shown.contains("aaaa"), "{shown}");
}

#[test]
fn a_value_tells_by_what_it_was_sealed() {
    let ring = of_secrets(vec![keys(Cipher::Secretbox, &[("k", &key(32))])]);
    let sealed = ring.seal(&SECRETS, PLACE, PLAIN).unwrap();
    assert_eq!(sealed_by(&sealed).as_deref(), Some("secretbox key \"k\""));
    for other in [PLAIN, b"k8s:enc:", b"k8s:enc:a:v1:cut"] {
        assert_eq!(sealed_by(other), None);
    }
}

#[test]
fn only_what_a_rule_is_about_is_counted() {
    let counted = Keys::new(Arc::new(of_secrets(vec![keys(Cipher::AesCbc, &[("k", &key(32))])])));
    let sealed = counted.seal(&SECRETS, PLACE, PLAIN).unwrap();
    counted.open(&SECRETS, PLACE, &sealed).unwrap();
    counted.open(&SECRETS, PLACE, b"k8s:enc:aescbc:v1:other:x").unwrap_err();
    counted.seal(&CONFIG_MAPS, PLACE, PLAIN).unwrap();
    let mut text = Text::new(Form::Prometheus);
    counted.tell(&mut text);
    let (report, name) = (text.finish(), "apiserver_storage_transformation_operations_total");
    let lines: Vec<&str> = report.lines().filter(|line| line.starts_with(name)).collect();
    let of = |status: &str, way: &str, n: u8| {
        format!(
            "{name}{{status=\"{status}\",transformation_type=\"{way}\",transformer_prefix=\"k8s:enc:aescbc:v1:\"}} {n}"
        )
    };
    assert_eq!(
        lines,
        [of("OK", "from_storage", 1), of("OK", "to_storage", 1), of("unknown-non-grpc", "from_storage", 1)]
    );
}

proptest! {
    /// Whatever is in a value and wherever it was changed: those that can tell, do.
    #[test]
    fn a_changed_value_is_refused(plain in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        for cipher in ALL {
            let ring = of_secrets(vec![keys(cipher, &[("k", &key(32))])]);
            let mut sealed = ring.seal(&SECRETS, PLACE, &plain).unwrap().into_owned();
            prop_assert_eq!(open(&ring, &sealed), Ok((plain.clone(), false)));
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            match cipher {
                Cipher::AesGcm | Cipher::Secretbox => prop_assert!(open(&ring, &sealed).is_err()),
                Cipher::AesCbc => prop_assert!(open(&ring, &sealed) != Ok((plain.clone(), false))),
            }
        }
    }

    #[test]
    fn nothing_that_lies_there_is_worse_than_an_error(rest in proptest::collection::vec(any::<u8>(), 0..80)) {
        for cipher in ALL {
            let ring = of_secrets(vec![keys(cipher, &[("k", &key(32))])]);
            let mark = format!("k8s:enc:{}:v1:k:", cipher.name());
            let _read_or_refused = open(&ring, &[mark.as_bytes(), &rest].concat());
        }
    }
}
