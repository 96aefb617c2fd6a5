//! Addresses of one range, lent to owners; survives a crash or a re-exec at any instruction.
//!
//! One file for each address lent, named like the address, holding the owner. A file appears whole, by `rename`, and the
//! memory is filled from the directory on opening, so the directory is the truth. What was half written has another
//! name and is swept away. An owner has at most one address: asking again is how a workload is adopted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::IpNet;

/// Why no address could be lent or taken back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("all {size} addresses of {range} are in use: remove workloads from this node or give it a larger range")]
    Exhausted { range: IpNet, size: u32 },
    #[error("{range} is too small: it must hold the gateway and at least one more address")]
    TooSmall { range: IpNet },
    #[error("cannot {action} {path}: {source}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

/// The range and who has what of it.
#[derive(Debug)]
pub struct Pool {
    dir: PathBuf,
    range: IpNet,
    /// Host numbers `first..=last` may be lent.
    first: u32,
    last: u32,
    /// Where the search goes on: an address rests as long as possible before someone else has it.
    next: u32,
    by_number: BTreeMap<u32, String>,
    by_owner: BTreeMap<String, u32>,
}

const HALF_WRITTEN: &str = ".new";

/// A range of IPv6 may be huge; nobody needs more than this many addresses on one node.
const MOST: u32 = 1 << 16;

impl Pool {
    /// Opens the directory, made if it is missing, and finds what was lent. The first host of the range is the
    /// gateway's and never lent; nor are the network's and the broadcast address.
    pub fn open(dir: &Path, range: IpNet) -> Result<Self, Error> {
        let host_bits = match range.address() {
            IpAddr::V4(_) => 32u8.saturating_sub(range.prefix()),
            IpAddr::V6(_) => 128u8.saturating_sub(range.prefix()),
        };
        let size = 1u32.checked_shl(u32::from(host_bits)).unwrap_or(u32::MAX).min(MOST);
        let (first, last) = (2, size.saturating_sub(2));
        if last < first {
            return Err(Error::TooSmall { range });
        }
        fs::create_dir_all(dir).map_err(failed("create the directory", dir))?;
        let mut pool = Self {
            dir: dir.to_owned(),
            range,
            first,
            last,
            next: first,
            by_number: BTreeMap::new(),
            by_owner: BTreeMap::new(),
        };
        pool.read()?;
        Ok(pool)
    }

    pub fn gateway(&self) -> Option<IpAddr> {
        self.range.nth(1)
    }

    pub fn range(&self) -> IpNet {
        self.range
    }

    /// The owner's address: the one it has, or else a free one.
    pub fn allocate(&mut self, owner: &str) -> Result<IpAddr, Error> {
        if let Some(address) = self.get(owner) {
            return Ok(address);
        }
        let exhausted = || Error::Exhausted { range: self.range, size: self.last - self.first + 1 };
        let number = (self.next..=self.last)
            .chain(self.first..self.next)
            .find(|number| !self.by_number.contains_key(number))
            .ok_or_else(exhausted)?;
        let address = self.range.nth(number).ok_or_else(exhausted)?;
        self.write(address, owner)?;
        self.next = if number == self.last { self.first } else { number + 1 };
        self.by_number.insert(number, owner.to_owned());
        self.by_owner.insert(owner.to_owned(), number);
        Ok(address)
    }

    /// Takes back what the owner has; nothing is success.
    pub fn release(&mut self, owner: &str) -> Result<(), Error> {
        let Some(number) = self.by_owner.get(owner).copied() else { return Ok(()) };
        if let Some(address) = self.range.nth(number) {
            let path = self.dir.join(address.to_string());
            match fs::remove_file(&path) {
                Ok(()) => self.sync()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove", &path)(error)),
            }
        }
        self.by_owner.remove(owner);
        self.by_number.remove(&number);
        Ok(())
    }

    pub fn get(&self, owner: &str) -> Option<IpAddr> {
        self.by_owner.get(owner).and_then(|number| self.range.nth(*number))
    }

    /// Every owner with its address.
    pub fn owners(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        self.by_owner.iter().filter_map(|(owner, number)| Some((owner.as_str(), self.range.nth(*number)?)))
    }

    fn read(&mut self) -> Result<(), Error> {
        let reading = |error| failed("read the directory", &self.dir)(error);
        for entry in fs::read_dir(&self.dir).map_err(reading)? {
            let path = entry.map_err(reading)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(HALF_WRITTEN) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                continue;
            }
            let Some(number) = name.parse().ok().and_then(|address| self.number_of(address)) else {
                tracing::warn!(path = %path.display(), range = %self.range, "not an address of this node's range: left alone");
                continue;
            };
            let owner = fs::read_to_string(&path).map_err(failed("read", &path))?;
            self.by_owner.insert(owner.clone(), number);
            self.by_number.insert(number, owner);
            self.next = self.next.max(number + 1);
        }
        if self.next > self.last {
            self.next = self.first;
        }
        Ok(())
    }

    fn number_of(&self, address: IpAddr) -> Option<u32> {
        let number = match (address, self.range.network()) {
            (IpAddr::V4(a), IpAddr::V4(base)) => u32::from(a).checked_sub(u32::from(base))?,
            (IpAddr::V6(a), IpAddr::V6(base)) => u32::try_from(u128::from(a).checked_sub(u128::from(base))?).ok()?,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        (self.first..=self.last).contains(&number).then_some(number)
    }

    fn write(&self, address: IpAddr, owner: &str) -> Result<(), Error> {
        let path = self.dir.join(address.to_string());
        let temporary = self.dir.join(format!("{address}{HALF_WRITTEN}"));
        let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
        file.write_all(owner.as_bytes()).map_err(failed("write", &temporary))?;
        file.sync_all().map_err(failed("sync", &temporary))?;
        fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Error> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", &self.dir))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn lends_each_address_once_and_then_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = Pool::open(dir.path(), range("10.42.0.0/29")).unwrap();
        assert_eq!(pool.gateway().unwrap().to_string(), "10.42.0.1");
        let lent: BTreeSet<String> = (0..5).map(|n| pool.allocate(&n.to_string()).unwrap().to_string()).collect();
        let expected = ["10.42.0.2", "10.42.0.3", "10.42.0.4", "10.42.0.5", "10.42.0.6"];
        assert_eq!(lent, expected.map(String::from).into());
        let error = pool.allocate("one too many").unwrap_err().to_string();
        assert!(error.starts_with("all 5 addresses of 10.42.0.0/29 are in use"), "{error}");
        pool.release("3").unwrap();
        assert_eq!(pool.allocate("one too many").unwrap().to_string(), "10.42.0.5");
    }

    #[test]
    fn an_address_rests_before_it_is_lent_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = Pool::open(dir.path(), range("10.42.0.0/24")).unwrap();
        let before = pool.allocate("a").unwrap();
        pool.release("a").unwrap();
        assert_ne!(pool.allocate("a").unwrap(), before);
    }

    #[test]
    fn opening_again_finds_all_and_sweeps_what_was_half_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut pool = Pool::open(dir.path(), range("10.42.0.0/24")).unwrap();
        let (a, b) = (pool.allocate("a").unwrap(), pool.allocate("b").unwrap());
        fs::write(dir.path().join("10.42.0.9.new"), "half").unwrap();
        fs::write(dir.path().join("10.99.0.9"), "another range's").unwrap();
        drop(pool);
        let mut pool = Pool::open(dir.path(), range("10.42.0.0/24")).unwrap();
        assert_eq!((pool.allocate("a").unwrap(), pool.allocate("b").unwrap()), (a, b));
        assert!(!dir.path().join("10.42.0.9.new").exists());
        assert_eq!(pool.owners().count(), 2);
    }

    #[test]
    fn a_range_without_room_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Pool::open(dir.path(), range("10.42.0.0/31")), Err(Error::TooSmall { .. })));
        assert!(Pool::open(dir.path(), range("10.42.0.0/30")).is_ok());
        assert!(Pool::open(&dir.path().join("6"), range("fd00:42::/64")).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever happens in whatever order, with the pool opened again at any point: no address has two owners, and
        /// an owner keeps its address until it gives it back.
        #[test]
        fn no_address_has_two_owners(steps in prop::collection::vec((0u8..12, 0u8..3), 1..60)) {
            let dir = tempfile::tempdir().unwrap();
            let mut pool = Pool::open(dir.path(), range("10.1.0.0/28")).unwrap();
            let mut expected: BTreeMap<String, IpAddr> = BTreeMap::new();
            for (owner, action) in steps {
                let owner = owner.to_string();
                match action {
                    0 => {
                        let address = pool.allocate(&owner).unwrap();
                        prop_assert_eq!(*expected.entry(owner).or_insert(address), address);
                    }
                    1 => {
                        pool.release(&owner).unwrap();
                        expected.remove(&owner);
                    }
                    _ => pool = Pool::open(dir.path(), range("10.1.0.0/28")).unwrap(),
                }
                let owners: BTreeMap<String, IpAddr> = pool.owners().map(|(o, a)| (o.to_owned(), a)).collect();
                prop_assert_eq!(&owners, &expected);
                prop_assert_eq!(owners.values().collect::<BTreeSet<_>>().len(), owners.len());
            }
        }
    }
}
