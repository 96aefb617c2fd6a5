//! Work on many things at once, with all processors.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What `work` makes of each of `items`, in their order. The first failure is told; what is under way is finished before.
pub fn map<T: Sync, R: Send, E: Send>(items: &[T], work: impl Fn(&T) -> Result<R, E> + Sync) -> Result<Vec<R>, E> {
    let done: Vec<Mutex<Option<Result<R, E>>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some((item, done)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            items.get(at).zip(done.get(at))
        } {
            let made = work(item);
            if made.is_err() {
                next.store(items.len(), Ordering::Relaxed);
            }
            *done.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
    // A panic of one is a panic here, when the scope ends.
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
    done.into_iter().filter_map(|done| done.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn order_is_kept_and_failures_are_told() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(
            super::map(&items, |n| Ok::<_, ()>(n * 2)).unwrap(),
            items.iter().map(|n| n * 2).collect::<Vec<_>>()
        );
        assert_eq!(super::map(&items, |n| if *n == 500 { Err(*n) } else { Ok(*n) }), Err(500));
        assert_eq!(super::map(&[], |n: &u32| Ok::<_, ()>(*n)), Ok(Vec::new()));
    }
}
