//! Scenes of flows before one level, with the time told.

use proptest::prelude::*;

use super::super::shuffle;
use super::*;

/// A level whose requests take as long as they are told to.
struct Scene {
    queues: Queues<&'static str>,
    start: Instant,
    now: Duration,
    /// When each that runs ends.
    running: Vec<(Duration, Id)>,
    lingering: Vec<(Duration, Lingering)>,
    done: HashMap<&'static str, u64>,
}

fn queue(queues: u64, hand: u64, length: u64) -> Shape {
    Shape::Queue { dealer: Dealer::new(queues, hand).unwrap(), length }
}

const MS: Duration = Duration::from_millis(1);

impl Scene {
    fn new(shape: Shape, limit: u64) -> Self {
        let start = Instant::now();
        let queues = Queues::new(shape, limit, start);
        Self { queues, start, now: Duration::ZERO, running: vec![], lingering: vec![], done: HashMap::new() }
    }

    fn at(&self) -> Instant {
        self.start + self.now
    }

    fn ask(&mut self, flow: &'static str, work: Work) -> Result<Id, Rejected> {
        let at = self.at();
        self.queues.arrive(work, shuffle::hash("schema", flow), flow, at).map(|(id, _)| id)
    }

    /// Begins all that can be begun; those run for so long.
    fn begin(&mut self, takes: impl Fn(&str) -> Duration) -> Vec<&'static str> {
        let mut begun = Vec::new();
        let at = self.at();
        while let Some(held) = self.queues.next(at) {
            begun.push(held.note);
            let (end, id) = (self.now + takes(held.note), held.id);
            self.running.push((end, id));
        }
        begun
    }

    /// A millisecond passes.
    fn tick(&mut self) {
        self.now += MS;
        let (at, now) = (self.at(), self.now);
        for (_, id) in self.running.extract_if(.., |(end, _)| *end <= now).collect::<Vec<_>>() {
            let (held, lingering) = self.queues.finish(id, at).unwrap();
            *self.done.entry(held.note).or_default() += 1;
            self.lingering.extend(lingering.map(|kept| (now + kept.time, kept)));
        }
        for (_, kept) in self.lingering.extract_if(.., |(end, _)| *end <= now).collect::<Vec<_>>() {
            self.queues.release(kept, at);
        }
    }
}

/// Two flows whose hands share no queue, so that what is seen is fairness and not luck.
fn apart(dealer: Dealer, flows: [&'static str; 2]) {
    let hand = |flow| dealer.deal(shuffle::hash("schema", flow));
    assert!(hand(flows[0]).iter().all(|queue| !hand(flows[1]).contains(queue)), "{flows:?}");
}

#[test]
fn what_is_too_much_is_refused_or_waits_as_the_level_says() {
    let shapes = [
        (Shape::Exempt, 5, 0, None),
        (Shape::Reject, 2, 0, Some(Rejected::ConcurrencyLimit)),
        (queue(1, 1, 3), 2, 3, Some(Rejected::QueueFull)),
        (queue(4, 2, 1), 2, 2, Some(Rejected::QueueFull)),
    ];
    for (shape, begun, waiting, refused) in shapes {
        let mut scene = Scene::new(shape, 2);
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(scene.ask("a", Work::LEAST));
            scene.begin(|_| MS);
        }
        if refused.is_some() {
            answers.push(scene.ask("a", Work::LEAST));
        }
        assert_eq!(scene.queues.counts(), (waiting, begun), "{shape:?}");
        assert_eq!(answers.last().unwrap().err(), refused, "{shape:?}");
    }
}

#[test]
fn a_flood_does_not_starve_another_flow() {
    let dealer = Dealer::new(64, 4).unwrap();
    apart(dealer, ["flood", "quiet"]);
    let mut scene = Scene::new(Shape::Queue { dealer, length: 50 }, 4);
    let (mut asked, mut refused) = (0, 0);
    for _ in 0..1000 {
        // Fifty times what there are seats for, against what is a quarter of them.
        for _ in 0..20 {
            refused += u64::from(scene.ask("flood", Work::LEAST).is_err());
        }
        if scene.now.as_millis().is_multiple_of(10) {
            scene.ask("quiet", Work::LEAST).unwrap();
            asked += 1;
        }
        scene.begin(|_| MS * 10);
        scene.tick();
    }
    let done = |flow| scene.done.get(flow).copied().unwrap_or_default();
    assert!(refused > 10_000, "{refused}");
    assert!(done("quiet") + 2 >= asked, "{} of {asked}", done("quiet"));
    // And all seats were used all the time.
    assert!(done("quiet") + done("flood") >= 390, "{:?}", scene.done);
}

#[test]
fn flows_share_evenly_by_the_work_that_they_turn_out_to_be() {
    let dealer = Dealer::new(64, 1).unwrap();
    apart(dealer, ["slow", "fast"]);
    for (slow, width) in [(8, 1), (8, 2), (2, 1), (4, 4)] {
        let mut scene = Scene::new(Shape::Queue { dealer, length: 50 }, 8);
        for _ in 0..4000 {
            for _ in 0..8 {
                let _full = scene.ask("fast", Work::LEAST);
                let _full = scene.ask("slow", Work::of(width));
            }
            scene.begin(|flow| if flow == "slow" { MS * slow } else { MS });
            scene.tick();
        }
        let time = |flow, each: u64| scene.done.get(flow).copied().unwrap_or_default() * each;
        let (one, other) = (time("slow", u64::from(slow) * width), time("fast", 1));
        assert!(one.abs_diff(other) * 10 < one + other, "slow {slow} x {width}: {one} and {other} seat-milliseconds");
    }
}

#[test]
fn a_wide_request_is_not_passed_by_others_forever() {
    let mut scene = Scene::new(queue(1, 1, 100), 4);
    for _ in 0..4 {
        scene.ask("narrow", Work::LEAST).unwrap();
    }
    scene.begin(|_| MS * 5);
    scene.ask("wide", Work::of(4)).unwrap();
    scene.ask("narrow", Work::LEAST).unwrap();
    assert!(scene.begin(|_| MS).is_empty() && scene.queues.counts() == (2, 4));
    for _ in 0..5 {
        scene.tick();
    }
    assert_eq!(scene.begin(|_| MS), ["wide"]);
    // Wider than all there is: alone, but not never.
    scene.tick();
    scene.begin(|_| MS);
    scene.ask("huge", Work::of(99)).unwrap();
    assert!(scene.begin(|_| MS).is_empty());
    scene.tick();
    assert_eq!(scene.begin(|_| MS), ["huge"]);
}

#[test]
fn seats_linger_after_a_write_that_many_watch() {
    let mut scene = Scene::new(queue(2, 1, 10), 2);
    let work = Work { initial: 1, last: 2, lingers: MS * 3 };
    scene.ask("write", work).unwrap();
    assert_eq!(scene.begin(|_| MS), ["write"]);
    scene.ask("read", Work::LEAST).unwrap();
    scene.tick();
    assert_eq!((scene.done["write"], scene.begin(|_| MS).len()), (1, 0));
    for _ in 0..3 {
        scene.tick();
    }
    assert_eq!(scene.begin(|_| MS), ["read"]);
}

#[test]
fn who_gives_up_leaves_its_place() {
    let mut scene = Scene::new(queue(1, 1, 10), 1);
    let ids: Vec<Id> = ["a", "b", "c"].map(|flow| scene.ask(flow, Work::LEAST).unwrap()).into();
    assert_eq!(scene.begin(|_| MS), ["a"]);
    let at = scene.at();
    assert!(scene.queues.give_up(ids[0], at).is_none());
    assert_eq!(scene.queues.give_up(ids[1], at).unwrap().note, "b");
    scene.tick();
    assert_eq!(scene.begin(|_| MS), ["c"]);
}

#[test]
fn another_configuration_takes_effect_at_once() {
    let mut scene = Scene::new(queue(8, 2, 50), 1);
    for _ in 0..12 {
        scene.ask("a", Work::LEAST).unwrap();
    }
    assert_eq!(scene.begin(|_| MS).len(), 1);
    let at = scene.at();
    // More seats and fewer queues: nobody who waits is lost.
    scene.queues.configure(queue(1, 1, 50), 4, at);
    assert_eq!(scene.begin(|_| MS).len(), 3);
    for _ in 0..10 {
        scene.tick();
        scene.begin(|_| MS);
    }
    assert_eq!((scene.done["a"], scene.queues.queues().len()), (12, 1));
    assert!(scene.queues.is_idle());
}

proptest! {
    /// Whatever happens: no more seats are used than there are, except by one that is wider than all of them, and nobody is lost.
    #[test]
    fn seats_and_requests_are_accounted_for(
        queues in 1u64..6, limit in 1u64..6, length in 1u64..4,
        steps in proptest::collection::vec((0u8..4, 0usize..4, 1u64..5, 0u64..3), 1..200),
    ) {
        let mut scene = Scene::new(queue(queues, 1, length), limit);
        let (mut asked, mut gone, mut ids) = (0u64, 0u64, Vec::new());
        for (what, flow, width, lingers) in steps {
            match what {
                0 | 1 => {
                    let work = Work { initial: width, last: width.min(lingers), lingers: MS * u32::try_from(lingers).unwrap() };
                    match scene.ask(["a", "b", "c", "d"][flow], work) {
                        Ok(id) => { asked += 1; ids.push(id); }
                        Err(why) => prop_assert_eq!(why, Rejected::QueueFull),
                    }
                }
                2 => {
                    let at = scene.at();
                    let id = ids.get(flow).copied().unwrap_or_default();
                    gone += u64::from(scene.queues.give_up(id, at).is_some());
                }
                _ => scene.tick(),
            }
            scene.begin(|_| MS * 2);
            let (_, used) = scene.queues.seats();
            let widest = scene.queues.executing().map(|(_, held)| held.work.seats()).max().unwrap_or_default();
            let kept: u64 = scene.lingering.iter().map(|(_, kept)| kept.seats).sum();
            prop_assert!(used <= limit.max(widest + kept), "{} of {}", used, limit);
        }
        for _ in 0..5000 {
            scene.tick();
            scene.begin(|_| MS * 2);
        }
        prop_assert!(scene.queues.is_idle());
        prop_assert_eq!(scene.queues.seats(), (0, 0));
        prop_assert_eq!(scene.done.values().sum::<u64>() + gone, asked);
    }
}
