//! How many replicas each set is to have next: the arithmetic of rolling updates, of recreation and of resizing.
//!
//! Owns numbers only: each function sets [`Set::wanted`] from what the sets have and show.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Set, Work, revision};

/// How far a rollout may be above and below the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fences {
    pub surge: i32,
    pub unavailable: i32,
}

/// `25%` of `total` or the number itself; what cannot be read counts as nothing (validation has refused it before).
pub fn resolve(text: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match text {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or(0);
            let product = percent.saturating_mul(total.into());
            let rounded = if round_up { product.saturating_add(99) } else { product }.div_euclid(100);
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// Both fences of a rolling update; nothing for other strategies. They are never both zero: a rollout could not move.
pub fn fences(spec: &DeploymentSpec) -> Fences {
    let replicas = spec.replicas.unwrap_or(1);
    let strategy = spec.strategy.as_ref();
    if replicas == 0 || strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate") {
        return Fences { surge: 0, unavailable: 0 };
    }
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let surge = resolve(rolling.and_then(|r| r.max_surge.as_ref()), replicas, true).max(0);
    let unavailable = resolve(rolling.and_then(|r| r.max_unavailable.as_ref()), replicas, false).clamp(0, replicas);
    let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
    Fences { surge, unavailable }
}

fn total(work: &Work<'_>) -> i32 {
    work.all().map(|set| set.wanted).sum()
}

/// The size that the new set may have now.
pub fn size_of_new(work: &Work<'_>) -> i32 {
    let (replicas, has) = (work.replicas(), work.new.as_ref().map_or(0, |set| set.wanted));
    if work.recreates() {
        return replicas;
    }
    let room = replicas + fences(work.spec).surge - total(work);
    if room <= 0 { has } else { has + room.min(replicas - has) }
}

/// One step of a rolling update: either the new set grows (or shrinks to size), or old ones shrink as far as availability allows.
pub fn rolling(work: &mut Work<'_>) {
    let replicas = work.replicas();
    let next = match &work.new {
        Some(set) if set.wanted > replicas => replicas,
        Some(_) | None => size_of_new(work),
    };
    let Some(new) = &mut work.new else { return };
    if new.wanted != next {
        new.wanted = next;
        return;
    }
    let least = replicas - fences(work.spec).unavailable;
    let new_unavailable = (new.wanted - new.available()).max(0);
    let available: i32 = work.all().map(Set::available).sum();
    let removable = total(work) - least - new_unavailable;
    if removable <= 0 {
        return;
    }
    // Replicas that do not work go first: they cost nothing.
    let mut left = removable;
    for set in &mut work.old {
        let sick = (set.wanted - set.available()).clamp(0, left);
        set.wanted -= sick;
        left -= sick;
    }
    let mut left = (available - least).max(0);
    for set in &mut work.old {
        let less = set.wanted.min(left);
        set.wanted -= less;
        left -= less;
    }
}

/// Recreation: the old sets go to nothing. True if one had not been there.
pub fn retire_old(work: &mut Work<'_>) -> bool {
    let mut any = false;
    for set in &mut work.old {
        any |= set.wanted > 0;
        set.wanted = 0;
    }
    any
}

pub fn fill_new(work: &mut Work<'_>) {
    let replicas = work.replicas();
    if let Some(set) = &mut work.new {
        set.wanted = replicas;
    }
}

/// The wanted number changed, or the rollout stands still: each set keeps its share.
pub fn resize(work: &mut Work<'_>) {
    let replicas = work.replicas();
    let active = work.all().filter(|set| set.wanted > 0).count();
    if active <= 1 {
        let at_work = work.all().position(|set| set.wanted > 0);
        let newest = work.old.len().checked_sub(1).filter(|_| work.new.is_none());
        let chosen = at_work.or(newest).unwrap_or(work.old.len());
        if let Some(set) = work.all_mut().nth(chosen) {
            set.wanted = replicas;
        }
        return;
    }
    let saturated = work.new.as_ref().is_some_and(|new| {
        new.annotation(revision::DESIRED).and_then(|d| d.parse().ok()) == Some(replicas)
            && new.wanted == replicas
            && new.available() == replicas
    });
    if saturated {
        retire_old(work);
        return;
    }
    if work.recreates() {
        return;
    }
    proportionally(work);
}

fn proportionally(work: &mut Work<'_>) {
    let most = if work.replicas() > 0 { work.replicas() + fences(work.spec).surge } else { 0 };
    let to_add = most - total(work);
    let shown = work.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
    let mut active: Vec<&mut Set> = work.all_mut().filter(|set| set.wanted > 0).collect();
    // Growth favours the largest and youngest, shrinking takes from the largest and oldest.
    active.sort_by_cached_key(|set| set.age());
    if to_add > 0 {
        active.reverse();
    }
    active.sort_by_key(|set| std::cmp::Reverse(set.wanted));
    let mut added = 0;
    for set in &mut active {
        let before = set.annotation(revision::MOST).and_then(|m| m.parse().ok()).filter(|m| *m > 0).unwrap_or(shown);
        let share = share(set.wanted, most, before);
        let left = to_add - added;
        let change = if to_add > 0 { share.clamp(0, left.max(0)) } else { share.clamp(left.min(0), 0) };
        set.wanted += change;
        added += change;
    }
    if let Some(first) = active.first_mut() {
        first.wanted = (first.wanted + to_add - added).max(0);
    }
}

/// By how much a set of `size` changes when the whole goes from `before` to `most`.
fn share(size: i32, most: i32, before: i32) -> i32 {
    if most == 0 || before <= 0 {
        return if most == 0 { -size } else { 0 };
    }
    let (size, most, before) = (i64::from(size), i64::from(most), i64::from(before));
    // Rounded to the nearest, halves up.
    let target = (2 * size * most + before) / (2 * before);
    i32::try_from(target - size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::tests::{Given, work};

    #[test]
    fn fences_of_percentages_and_numbers() {
        let text = |t: &str| IntOrString::String(t.into());
        for (replicas, surge, unavailable, expected) in [
            (4, text("25%"), text("25%"), (1, 1)),
            (3, text("25%"), text("25%"), (1, 0)),
            (10, text("25%"), text("25%"), (3, 2)),
            (1, IntOrString::Int(0), text("25%"), (0, 1)),
            (2, IntOrString::Int(0), IntOrString::Int(9), (0, 2)),
            (0, IntOrString::Int(1), IntOrString::Int(1), (0, 0)),
            (5, text("x%"), IntOrString::Int(1), (0, 1)),
        ] {
            let given = Given { replicas, surge, unavailable, ..Given::default() };
            let deployment = given.deployment();
            let fences = fences(deployment.spec.as_ref().unwrap());
            assert_eq!((fences.surge, fences.unavailable), expected, "{given:?}");
        }
    }

    #[test]
    fn one_step_of_a_rolling_update() {
        // replicas, surge, unavailable; (size, available) of the old sets and of the new; what they become.
        for (replicas, surge, unavailable, old, new, expected) in [
            (3, 1, 0, vec![(3, 3)], (0, 0), vec![3, 1]),
            (3, 1, 0, vec![(3, 3)], (1, 0), vec![3, 1]),
            (3, 1, 0, vec![(3, 3)], (1, 1), vec![2, 1]),
            (3, 0, 1, vec![(3, 3)], (0, 0), vec![2, 0]),
            (3, 0, 1, vec![(2, 2)], (0, 0), vec![2, 1]),
            (4, 2, 2, vec![(4, 4)], (0, 0), vec![4, 2]),
            (4, 2, 2, vec![(4, 4)], (2, 0), vec![2, 2]),
            // What does not work goes first, from the oldest on.
            (4, 1, 0, vec![(2, 0), (2, 2)], (1, 1), vec![1, 2, 1]),
            (4, 1, 1, vec![(2, 0), (2, 2)], (1, 1), vec![0, 2, 1]),
            // The new set is larger than wanted after a resize.
            (2, 1, 0, vec![(1, 1)], (3, 3), vec![1, 2]),
            (3, 1, 0, vec![(0, 0)], (3, 3), vec![0, 3]),
        ] {
            let surge = IntOrString::Int(surge);
            let unavailable = IntOrString::Int(unavailable);
            let given = Given { replicas, surge, unavailable, old, new: Some(new), ..Given::default() };
            let deployment = given.deployment();
            let mut work = work(&given, &deployment);
            rolling(&mut work);
            assert_eq!(work.all().map(|set| set.wanted).collect::<Vec<_>>(), expected, "{given:?}");
        }
    }

    #[test]
    fn a_resize_in_the_middle_keeps_the_shares() {
        for (replicas, was, old, new, expected) in [
            (10, 5, vec![(3, 3)], (3, 3), vec![5, 6]),
            (4, 8, vec![(6, 6)], (3, 3), vec![3, 2]),
            (0, 5, vec![(3, 3)], (3, 3), vec![0, 0]),
            // Only one is at work: it takes all.
            (7, 5, vec![(0, 0)], (5, 5), vec![0, 7]),
        ] {
            let given = Given { replicas, was, old, new: Some(new), ..Given::default() };
            let deployment = given.deployment();
            let mut work = work(&given, &deployment);
            assert!(work.was_resized());
            resize(&mut work);
            let sizes: Vec<_> = work.all().map(|set| set.wanted).collect();
            assert_eq!(sizes, expected, "{given:?}");
        }
    }
}
