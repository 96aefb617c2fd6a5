//! Indexes of a job's pods as text: `0,2-4`.

/// How many it names, all below `completions`. Upstream's words for what is wrong with it.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// The first index that both name. What cannot be read is passed over: who counts it says so.
pub(super) fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| text.split(',').filter_map(|part| interval(part, completions).ok()).collect::<Vec<_>>();
    let (one, other) = (read(one), read(other));
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    while let (Some((a, b)), Some((x, y))) = (one.peek(), other.peek()) {
        if a <= y && x <= b {
            return Some(*a.max(x));
        }
        if a <= x {
            one.next()
        } else {
            other.next()
        };
    }
    None
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |part: &str| {
        let number: i64 = part.parse().map_err(|_| format!("cannot convert string to integer for index: {part:?}"))?;
        if number < completions { Ok(number) } else { Err(format!("too large index: {part:?}")) }
    };
    let parts: Vec<&str> = text.split('-').collect();
    match parts.as_slice() {
        [one] => number(one).map(|one| (one, one)),
        [from, to] => match (number(from)?, number(to)?) {
            (from, to) if from >= to => Err(format!("non-increasing order, previous: {from}, current: {to}")),
            both => Ok(both),
        },
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_or_refused() {
        assert_eq!(count("0,2-4", 5), Ok(4));
        assert_eq!(count("", 5), Ok(0));
        for (text, why) in [
            ("5", "too large index: \"5\""),
            ("a", "cannot convert string to integer for index: \"a\""),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
        ] {
            assert_eq!(count(text, 5).unwrap_err(), why);
        }
        assert!(count("0-1-2", 5).unwrap_err().contains("at most two parts"));
    }

    #[test]
    fn what_two_texts_share_is_found() {
        for (one, other, shared) in
            [("0,2-4", "1,5", None), ("0,2-4", "3-6", Some(3)), ("0,x,7", "5-6,7", Some(7)), ("", "1", None)]
        {
            assert_eq!(overlap(one, other, 9), shared, "{one} {other}");
            assert_eq!(overlap(other, one, 9), shared, "{other} {one}");
        }
    }
}
