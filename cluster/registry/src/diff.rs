//! The difference of two texts, line by line, in the unified format. By the algorithm of Python's `difflib` (Ratcliff and Obershelp,
//! 1988), which upstream uses, so that of several ways to tell a difference it is the same one.

use std::collections::HashMap;

/// Lines around a difference.
const CONTEXT: usize = 3;
/// In a text of this many lines, those that come up again and again tell nothing.
const LONG: usize = 200;

/// A run of lines that both texts have: where in each, and how many.
type Block = (usize, usize, usize);

/// What turns `from` lines of the old text into `to` lines of the new one; the same number of the same lines if `same`.
#[derive(Clone, Copy)]
struct Step {
    same: bool,
    old: (usize, usize),
    new: (usize, usize),
}

pub(crate) fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut out = String::new();
    for group in grouped(&steps(&old, &new)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let header = [(first.old.0, last.old.1), (first.new.0, last.new.1)].map(|(from, to)| range(from, to));
        let [before, after] = header;
        out.push_str(&format!("@@ -{before} +{after} @@\n"));
        for step in group {
            let mut write = |mark: char, lines: &[&str], (from, to): (usize, usize)| {
                for line in lines.get(from..to).unwrap_or_default() {
                    out.push(mark);
                    out.push_str(line);
                    out.push('\n');
                }
            };
            if step.same {
                write(' ', &old, step.old);
            } else {
                write('-', &old, step.old);
                write('+', &new, step.new);
            }
        }
    }
    out
}

fn range(from: usize, to: usize) -> String {
    match to - from {
        0 => format!("{from},0"),
        1 => (from + 1).to_string(),
        many => format!("{},{many}", from + 1),
    }
}

fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut a, mut b) = (0, 0);
    for (i, j, length) in blocks(old, new).into_iter().chain([(old.len(), new.len(), 0)]) {
        if a < i || b < j {
            steps.push(Step { same: false, old: (a, i), new: (b, j) });
        }
        (a, b) = (i + length, j + length);
        if length > 0 {
            steps.push(Step { same: true, old: (i, a), new: (j, b) });
        }
    }
    steps
}

/// Steps with few lines around each difference; differences that are close to each other together.
fn grouped(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut groups = Vec::new();
    let mut group: Vec<Step> = Vec::new();
    let last = steps.len().saturating_sub(1);
    for (at, step) in steps.iter().enumerate() {
        let mut step = *step;
        if step.same {
            let length = step.old.1 - step.old.0;
            let (head, tail) = (length.min(CONTEXT), length.min(CONTEXT));
            let starts = Step { old: (step.old.1 - tail, step.old.1), new: (step.new.1 - tail, step.new.1), ..step };
            let ends = Step { old: (step.old.0, step.old.0 + head), new: (step.new.0, step.new.0 + head), ..step };
            if at == 0 {
                step = starts;
            } else if at == last {
                step = ends;
            } else if length > 2 * CONTEXT {
                group.push(ends);
                groups.push(std::mem::take(&mut group));
                step = starts;
            }
        }
        group.push(step);
    }
    if group.iter().any(|step| !step.same) {
        groups.push(group);
    }
    groups
}

/// All runs of common lines, in order; those that touch are one.
fn blocks(old: &[&str], new: &[&str]) -> Vec<Block> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if new.len() >= LONG {
        let many = new.len() / 100 + 1;
        places.retain(|_, found| found.len() <= many);
    }
    let mut found = Vec::new();
    let mut todo = vec![(0, old.len(), 0, new.len())];
    while let Some((a, a_end, b, b_end)) = todo.pop() {
        let (i, j, length) = longest(old, new, &places, (a, a_end), (b, b_end));
        if length > 0 {
            found.push((i, j, length));
            todo.push((a, i, b, j));
            todo.push((i + length, a_end, j + length, b_end));
        }
    }
    found.sort_unstable();
    let mut joined: Vec<Block> = Vec::new();
    for (i, j, length) in found {
        match joined.last_mut() {
            Some(last) if last.0 + last.2 == i && last.1 + last.2 == j => last.2 += length,
            _ => joined.push((i, j, length)),
        }
    }
    joined
}

/// The longest run within the bounds, and of several the first.
fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (a, a_end): (usize, usize),
    (b, b_end): (usize, usize),
) -> Block {
    let mut best = (a, b, 0);
    // How long the run is that ends at a line of the new text and the line before of the old one.
    let mut runs: HashMap<usize, usize> = HashMap::new();
    for (i, line) in old.iter().enumerate().take(a_end).skip(a) {
        let mut next = HashMap::new();
        let within = places.get(line).into_iter().flatten().copied().filter(|j| (b..b_end).contains(j));
        for j in within {
            let length = j.checked_sub(1).and_then(|before| runs.get(&before)).copied().unwrap_or(0) + 1;
            next.insert(j, length);
            if length > best.2 {
                best = (i + 1 - length, j + 1 - length, length);
            }
        }
        runs = next;
    }
    // Lines that tell nothing may stand at either end of it.
    let (mut i, mut j, mut length) = best;
    while i > a && j > b && old.get(i - 1) == new.get(j - 1) {
        (i, j, length) = (i - 1, j - 1, length + 1);
    }
    while i + length < a_end && j + length < b_end && old.get(i + length) == new.get(j + length) {
        length += 1;
    }
    (i, j, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn differences_are_told_with_what_is_around_them() {
        let old: Vec<String> = (1..=20).map(|n| n.to_string()).collect();
        let mut new = old.clone();
        new[9] = "x".into();
        new.insert(19, "y".into());
        let text = unified(&old.join("\n"), &new.join("\n"));
        assert_eq!(
            text,
            "@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+x\n 11\n 12\n 13\n@@ -17,4 +17,5 @@\n 17\n 18\n 19\n+y\n 20\n"
        );
        assert_eq!(unified("a\nb", "a\nb"), "");
        assert_eq!(unified("", "a"), "@@ -0,0 +1 @@\n+a\n");
    }

    proptest! {
        /// All lines together, taken as they are marked, are both texts.
        #[test]
        fn nothing_is_lost(old in proptest::collection::vec("[abc]", 0..12), new in proptest::collection::vec("[abc]", 0..12)) {
            let (a, b): (Vec<&str>, Vec<&str>) = (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
            let mut made = Vec::new();
            for step in steps(&a, &b) {
                if step.same {
                    prop_assert_eq!(&a[step.old.0..step.old.1], &b[step.new.0..step.new.1]);
                }
                made.extend_from_slice(&b[step.new.0..step.new.1]);
            }
            prop_assert_eq!(made, b);
        }
    }
}
