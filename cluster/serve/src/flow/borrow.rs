//! Who of those that are limited may have how many seats: each gets what it needs between its bounds, and what is left over in proportion.

use super::demand::Demand;
use super::work::as_f64;

/// Below this a target counts as this.
const LEAST_TARGET: f64 = 0.001;

/// A level's seats by its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub nominal: u64,
    pub lower: u64,
    pub upper: u64,
}

/// One that takes part: its bounds and its demand.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub bounds: Bounds,
    pub demand: Demand,
    /// Takes what it needs before all others.
    pub exempt: bool,
}

/// What one is given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Given {
    pub seats: u64,
    pub target: f64,
}

impl Claim {
    /// What it has at least: what it used of its own, no less than what it does not lend.
    fn least(&self) -> f64 {
        let (lower, nominal) = (as_f64(self.bounds.lower), as_f64(self.bounds.nominal));
        let used = self.demand.high_watermark;
        if self.exempt { lower.max(used) } else { lower.max(nominal.min(used)) }
    }

    fn target(&self) -> f64 {
        self.least().max(self.demand.smoothed)
    }
}

/// The seats of each, in the order of `claims`, and the proportion of its target that each gets where no bound says otherwise.
pub fn allocate(claims: &[Claim]) -> (Vec<Given>, f64) {
    let total: f64 = claims.iter().map(|claim| as_f64(claim.bounds.nominal)).sum();
    let limited = || claims.iter().filter(|claim| !claim.exempt);
    let taken: f64 = claims.iter().filter(|claim| claim.exempt).map(Claim::least).sum();
    let (left, lower) = (total - taken, limited().map(|claim| as_f64(claim.bounds.lower)).sum::<f64>());
    let least: f64 = limited().map(Claim::least).sum();
    let proportion = if left <= least { 0.0 } else { proportion(claims, total) };
    let seats = |claim: &Claim| {
        let lowest = as_f64(claim.bounds.lower);
        match claim.exempt {
            true => claim.least(),
            false if left <= lower => lowest,
            false if left <= least => lowest + (claim.least() - lowest) * (left - lower) / (least - lower),
            false => share(claim, proportion),
        }
    };
    let given = claims.iter().map(|claim| Given { seats: rounded(seats(claim)), target: claim.target() });
    (given.collect(), proportion)
}

fn share(claim: &Claim, proportion: f64) -> f64 {
    let wanted = proportion * claim.target().max(LEAST_TARGET);
    // The upper bound is never below the lower one; what is used may be above it where the configuration has just changed.
    wanted.min(as_f64(claim.bounds.upper)).max(claim.least().min(as_f64(claim.bounds.upper)))
}

/// The one proportion by which the shares add up to `total`: they only grow with it, so it is closed in upon.
fn proportion(claims: &[Claim], total: f64) -> f64 {
    let limited = || claims.iter().filter(|claim| !claim.exempt);
    let sum = |proportion| limited().map(|claim| share(claim, proportion)).sum::<f64>();
    let highest = limited().map(|claim| as_f64(claim.bounds.upper) / claim.target().max(LEAST_TARGET));
    let (mut low, mut high) = (0.0, highest.fold(0.0, f64::max));
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        match sum(middle) < total {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

/// Seats are counts between 0 and a few thousand.
fn rounded(seats: f64) -> u64 {
    seats.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(nominal: u64, lower: u64, upper: u64, used: f64, smoothed: f64) -> Claim {
        let demand = Demand { high_watermark: used, smoothed, ..Demand::default() };
        Claim { bounds: Bounds { nominal, lower, upper }, demand, exempt: false }
    }

    fn seats(claims: &[Claim]) -> Vec<u64> {
        allocate(claims).0.iter().map(|given| given.seats).collect()
    }

    #[test]
    fn the_idle_lend_to_the_busy() {
        // Without demand all keep about what they have.
        assert_eq!(seats(&[claim(50, 50, 150, 0.0, 0.0), claim(50, 50, 150, 0.0, 0.0)]), [50, 50]);
        // One is idle and lends 40 of 50.
        assert_eq!(seats(&[claim(50, 10, 150, 0.0, 0.0), claim(50, 50, 150, 200.0, 200.0)]), [10, 90]);
        // No more than may be borrowed; what nobody needs goes back.
        assert_eq!(seats(&[claim(50, 10, 150, 0.0, 0.0), claim(50, 50, 60, 200.0, 200.0)]), [40, 60]);
        // What the lender uses itself it keeps.
        assert_eq!(seats(&[claim(50, 10, 150, 45.0, 45.0), claim(50, 50, 150, 200.0, 200.0)]), [45, 55]);
        // Both want more than there is: each keeps its own.
        assert_eq!(seats(&[claim(40, 10, 140, 90.0, 90.0), claim(60, 20, 160, 90.0, 90.0)]), [40, 60]);
    }

    #[test]
    fn who_is_exempt_takes_first() {
        let exempt = |used| Claim { exempt: true, ..claim(0, 0, 100, used, used) };
        let others = [claim(50, 25, 150, 50.0, 50.0), claim(50, 25, 150, 50.0, 50.0)];
        assert_eq!(seats(&[exempt(20.0), others[0], others[1]]), [20, 40, 40]);
        assert_eq!(seats(&[exempt(500.0), others[0], others[1]]), [500, 25, 25]);
    }
}
