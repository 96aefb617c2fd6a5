use std::fs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

use super::*;

const START: i64 = 1_790_000_000;

fn clock() -> (Clock, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(START));
    let shared = Arc::clone(&now);
    (Clock::new(move || Timestamp::from_second(shared.load(Ordering::Relaxed)).unwrap()), now)
}

fn names(addresses: &[&str]) -> Names {
    Names::new("edge-1", addresses.iter().map(|a| a.parse().unwrap()).collect())
}

#[test]
fn a_second_start_finds_the_same_identities() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, _) = clock();
    let first = Pki::open(dir.path(), names(&["10.0.0.5"]), clock.clone()).unwrap();
    let second = Pki::open(dir.path(), names(&["10.0.0.5"]), clock).unwrap();
    for profile in [Profile::ApiServer, Profile::Admin, Profile::Kubelet] {
        let (a, b) = (first.identity(&profile).unwrap(), second.identity(&profile).unwrap());
        assert_eq!(a.pem, b.pem, "{profile:?}");
    }
    assert_eq!(first.authority(Signer::Client), second.authority(Signer::Client));
    assert_eq!(first.token_key(), second.token_key());
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn the_serving_certificate_names_the_cluster_and_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), names(&["10.0.0.5", "fd00::5"]), clock().0).unwrap();
    let seen = Seen::of(&pki.identity(&Profile::ApiServer).unwrap().certificate).unwrap();
    let mut dns = vec![
        "edge-1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    dns.sort_unstable();
    assert_eq!(seen.dns, dns);
    let mut ips: Vec<IpAddr> =
        ["10.0.0.5", "10.43.0.1", "127.0.0.1", "::1", "fd00::5"].iter().map(|a| a.parse().unwrap()).collect();
    ips.sort_unstable();
    assert_eq!(seen.ips, ips);
    let kubelet = Seen::of(&pki.identity(&Profile::Kubelet).unwrap().certificate).unwrap();
    assert_eq!(
        (kubelet.common_name.as_str(), kubelet.organizations),
        ("system:node:edge-1", vec!["system:nodes".into()])
    );
}

#[test]
fn certificates_follow_addresses_and_time_and_keep_their_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, now) = clock();
    let pki = Pki::open(dir.path(), names(&["10.0.0.5"]), clock).unwrap();
    let (first, admin) = (pki.identity(&Profile::ApiServer).unwrap(), pki.identity(&Profile::Admin).unwrap());
    pki.set_names(names(&["10.0.0.6"])).unwrap();
    let second = pki.identity(&Profile::ApiServer).unwrap();
    assert!(second.seen.ips.contains(&"10.0.0.6".parse().unwrap()));
    assert!(!second.seen.ips.contains(&"10.0.0.5".parse().unwrap()));
    assert_ne!(first.pem, second.pem);
    assert_eq!(admin.pem, pki.identity(&Profile::Admin).unwrap().pem);

    now.store(START + 200 * 86_400, Ordering::Relaxed);
    pki.renew().unwrap();
    assert_eq!(second.pem, pki.identity(&Profile::ApiServer).unwrap().pem);
    now.store(START + 250 * 86_400, Ordering::Relaxed);
    pki.renew().unwrap();
    let third = pki.identity(&Profile::ApiServer).unwrap();
    assert_ne!(second.pem, third.pem);
    assert!(third.not_after() > second.not_after());
    assert!(signed_by(&third, &pki.server));
    assert!(!signed_by(&third, &pki.client));
}

#[test]
fn a_damaged_root_is_named_and_a_damaged_leaf_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Pki::open(dir.path(), names(&[]), clock().0);
    let leaf = open().unwrap().identity(&Profile::Admin).unwrap();
    let path = dir.path().join(Profile::Admin.file());
    fs::write(&path, &leaf.pem.as_bytes()[..leaf.pem.len() / 2]).unwrap();
    let again = open().unwrap().identity(&Profile::Admin).unwrap();
    assert_ne!(again.pem, leaf.pem);
    assert_eq!(fs::read_to_string(&path).unwrap(), again.pem);

    for file in ["server-ca.pem", "client-ca.pem", "service-account.key"] {
        let path = dir.path().join(file);
        let good = fs::read(&path).unwrap();
        for bad in [&b""[..], &good[..good.len() / 2], b"\xff\xfe"] {
            fs::write(&path, bad).unwrap();
            let error = open().unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
        fs::write(&path, good).unwrap();
    }
    // A leaf's certificate in the authority's place.
    fs::copy(dir.path().join(Profile::Admin.file()), dir.path().join("client-ca.pem")).unwrap();
    assert!(open().unwrap_err().to_string().contains("not one of an authority"));
}

#[test]
fn a_crash_between_any_two_files_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let all = [Profile::ApiServer, Profile::Admin, Profile::KubeletServing, Profile::Kubelet];
    let pki = Pki::open(dir.path(), names(&[]), clock().0).unwrap();
    for profile in &all {
        pki.identity(profile).unwrap();
    }
    let files: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    for missing in &files {
        fs::remove_file(missing).unwrap();
        fs::write(missing.with_extension("pem.new"), "half of a fi").unwrap();
        let pki = Pki::open(dir.path(), names(&[]), clock().0).unwrap();
        for profile in &all {
            let identity = pki.identity(profile).unwrap();
            let facts = profile.facts(&names(&[]));
            assert!(signed_by(&identity, pki.signer(facts.signer)), "{profile:?} after losing {missing:?}");
        }
    }
}
