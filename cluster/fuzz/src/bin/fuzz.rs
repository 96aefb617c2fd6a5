//! A target under libFuzzer: `KEDGE_TARGET=NAME kedge-fuzz DIR -max_total_time=60`. Without a name it lists the targets. The seeds are put
//! into DIR by `kedge-fuzz-seeds`.
#![no_main]

use std::sync::LazyLock;

use kedge_fuzz::random::Random;
use kedge_fuzz::{TARGETS, Target, mutate};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<Option<&Target>> =
    LazyLock::new(|| Target::named(&std::env::var("KEDGE_TARGET").unwrap_or_default()));

fuzz_target!(|data: &[u8]| {
    match *TARGET {
        Some(target) => (target.run)(data),
        None => {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert!(names.is_empty(), "KEDGE_TARGET is none of {}", names.join(", "));
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    let mut random = Random::new(u64::from(seed));
    let Some(input) = data.get(..size).filter(|_| random.once_in(2)) else {
        return fuzzer_mutate(data, size, most);
    };
    let input = input.to_vec();
    let made = mutate::once(&mut random, &input, &input);
    let length = made.len().min(most).min(data.len());
    if let (Some(place), Some(made)) = (data.get_mut(..length), made.get(..length)) {
        place.copy_from_slice(made);
    }
    length
});
