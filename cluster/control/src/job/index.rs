//! Sets of completion indexes in the text form of `completedIndexes`: `0-3,7`.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::batch::v1::JobSpec;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(BTreeSet<i32>);

/// More indexes than a job may have are not read from a status.
const MOST: i32 = 100_000;

impl Indexes {
    /// Parts that cannot be read are left out.
    pub fn parse(text: &str) -> Self {
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>())
                && (0..MOST).contains(&first)
            {
                all.extend(first..=last.min(MOST));
            }
        }
        Self(all)
    }

    pub fn extend(&mut self, index: Option<i32>) {
        self.0.extend(index);
    }

    pub fn keep_below(&mut self, end: i32) {
        self.0.retain(|index| (0..end).contains(index));
    }

    pub fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut indexes = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = indexes.next() {
            let mut last = first;
            while let Some(next) = indexes.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

/// The first `number` indexes that have neither succeeded nor a running pod.
pub fn missing(spec: &JobSpec, completed: &Indexes, running: &[i32], number: usize) -> Vec<i32> {
    let free = |index: &i32| !completed.0.contains(index) && !running.contains(index);
    (0..spec.completions.unwrap_or(0)).filter(free).take(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        for (text, back) in
            [("", ""), ("0", "0"), ("0,1,2", "0-2"), ("5,3,4,9", "3-5,9"), ("1,2", "1,2"), ("x,2-1,-3,7", "7")]
        {
            assert_eq!(Indexes::parse(text).to_string(), back, "{text}");
        }
        assert!(Indexes::parse("0-2147483647").len() <= MOST + 1);
        let spec = JobSpec { completions: Some(5), ..JobSpec::default() };
        assert_eq!(missing(&spec, &Indexes::parse("0-1"), &[3], 9), [2, 4]);
    }

    proptest! {
        #[test]
        fn written_and_read_back(all in proptest::collection::btree_set(0..50i32, 0..30)) {
            let indexes = Indexes(all);
            prop_assert_eq!(Indexes::parse(&indexes.to_string()), indexes);
        }
    }
}
