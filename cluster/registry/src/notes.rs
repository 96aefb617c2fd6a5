//! What admission has to say to the audit log. A note belongs to the request that is carried out where it is made.

use std::cell::RefCell;
use std::collections::BTreeMap;

tokio::task_local! {
    static NOTES: RefCell<BTreeMap<String, String>>;
}

/// Does the work, and gives what was noted in it.
pub async fn noting<T>(work: impl Future<Output = T>) -> (T, BTreeMap<String, String>) {
    let noted = async {
        let done = work.await;
        (done, NOTES.with(RefCell::take))
    };
    NOTES.scope(RefCell::default(), noted).await
}

/// The first note under a key stays. Made where nobody asked for notes, it is lost.
pub(crate) fn note(key: String, value: impl FnOnce() -> String) {
    let _nobody_asks = NOTES.try_with(|notes| {
        notes.borrow_mut().entry(key).or_insert_with(value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notes_belong_to_the_work_that_makes_them() {
        note("lost".into(), || "x".into());
        let one = noting(async {
            note("a".into(), || "1".into());
            tokio::task::yield_now().await;
            note("a".into(), || "2".into());
            7
        });
        let other = noting(async { note("b".into(), || "3".into()) });
        let (one, other) = tokio::join!(one, other);
        assert_eq!(one, (7, BTreeMap::from([("a".into(), "1".into())])));
        assert_eq!(other.1, BTreeMap::from([("b".into(), "3".into())]));
    }
}
