//! Verdicts that are cached: podseal against the floor, and 10,000 policy entries and whitelist lines against 10.

use crate::Plan;
use crate::load::{Measured, Shot};
use crate::scene::{Scene, review};
use crate::server::Server;
use crate::table::{Table, Target, median};

/// One server, one review, one number of connections, over all rounds.
struct Series<'a> {
    server: &'a Server,
    shot: &'a Shot,
    connections: usize,
    runs: Vec<Run>,
}

#[derive(Clone, Copy)]
struct Run {
    measured: Measured,
    /// Microseconds of processor time per review, on the server's side.
    cost: f64,
}

impl<'a> Series<'a> {
    fn new(server: &'a Server, shot: &'a Shot, connections: usize) -> Self {
        Self { server, shot, connections, runs: Vec::new() }
    }

    fn run(&mut self, plan: Plan) {
        let before = self.server.processor();
        let measured = self.shot.fire(&self.server.url, self.connections, plan.slice);
        #[allow(clippy::cast_precision_loss)]
        let cost = (self.server.processor() - before) / measured.requests as f64 * 1e6;
        self.server.clear_log();
        self.runs.push(Run { measured, cost });
    }

    fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(figure).collect())
    }

    /// The median of the ratios of neighbours in time: what else the machine does weighs on both.
    fn ratio(&self, other: &Self, figure: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().zip(&other.runs).map(|(run, other)| figure(run) / figure(other)).collect())
    }

    fn reviews(&self) -> u64 {
        self.runs.iter().map(|run| run.measured.requests).sum()
    }
}

/// All rows of it, and those of memory.
pub fn measure(scene: &Scene, plan: Plan, table: &mut Table) {
    let reviews = [&scene.signed.bundle[0], &scene.signed.gpg[0]].map(|image| review(&image.pinned()));
    for server in [&scene.small, &scene.large] {
        for review in &reviews {
            server.allows(review);
        }
    }
    let idle = [&scene.small, &scene.large].map(Server::memory);
    let [cosign, gpg] = reviews.each_ref().map(|review| Shot::new(review.json.to_string().as_bytes()));
    eprintln!("a review has {} bytes", reviews[0].json.to_string().len());
    let before = [&scene.small, &scene.large].map(judged);
    let mut series = [1, 16].map(|connections| {
        [
            Series::new(&scene.floor, &cosign, connections),
            Series::new(&scene.small, &cosign, connections),
            Series::new(&scene.small, &gpg, connections),
            Series::new(&scene.large, &cosign, connections),
        ]
    });
    for _ in 0..plan.rounds {
        series.iter_mut().flatten().for_each(|series| series.run(plan));
    }
    for at_once in &series {
        against_floor(at_once, table);
    }
    for at_once in &series {
        against_small(at_once, table);
    }
    // Each measured review was an allowance from the cache: no error, denial or new computation hides among them.
    let measured = [1_usize, 3].map(|which| {
        let also_gpg = if which == 1 { series.iter().map(|s| s[2].reviews()).sum() } else { 0 };
        series.iter().map(|s| s[which].reviews()).sum::<u64>() + also_gpg
    });
    for (i, server) in [&scene.small, &scene.large].into_iter().enumerate() {
        let fired = more(server, &cosign, plan.reviews.saturating_sub(measured[i]));
        check(server, before[i], measured[i] + fired);
        let (size, most) = [("10", 30.0), ("10,000", 80.0)][i];
        let done = measured[i] + fired;
        table.row(format!("memory before the warm reviews, {size} entries and lines"), idle[i], "MiB", Target::None);
        table.row(
            format!("memory after {done} warm reviews, {size} entries and lines"),
            server.memory(),
            "MiB",
            Target::Most(most),
        );
    }
}

fn against_floor([floor, cosign, gpg, _]: &[Series<'_>; 4], table: &mut Table) {
    let connections = floor.connections;
    let wide = connections > 1;
    let at = if wide { format!("at {connections} connections") } else { "at 1 connection".to_owned() };
    let rate = |run: &Run| run.measured.rate;
    let p99 = |run: &Run| run.measured.p99;
    table.row(format!("warm: floor {at}"), floor.median(rate), "reviews/s", Target::None);
    table.row(format!("warm: floor {at}: p99"), floor.median(p99), "µs", Target::None);
    table.row(format!("warm: floor {at}: processor time per review"), floor.median(|run| run.cost), "µs", Target::None);
    for (name, series) in [("cosign key", cosign), ("GPG", gpg)] {
        let [least, most] = if wide { [Target::Least(0.7), Target::Most(2.0)] } else { [Target::None; 2] };
        table.row(format!("warm: {name} {at}"), series.median(rate), "reviews/s", Target::None);
        table.row(format!("warm: {name} {at}: reviews/s against the floor"), series.ratio(floor, rate), "×", least);
        table.row(format!("warm: {name} {at}: p99 against the floor"), series.ratio(floor, p99), "×", most);
        table.row(
            format!("warm: {name} {at}: processor time per review"),
            series.median(|run| run.cost),
            "µs",
            Target::None,
        );
    }
}

fn against_small([_, small, _, large]: &[Series<'_>; 4], table: &mut Table) {
    let at =
        if small.connections == 1 { "1 connection".to_owned() } else { format!("{} connections", small.connections) };
    let time = |run: &Run| 1.0 / run.measured.rate;
    let mut row = |what: &str, ratio: f64, target| {
        table.row(format!("10,000 entries and lines against 10, {at}: {what}"), ratio, "×", target);
    };
    row("time per review", large.ratio(small, time), Target::Most(2.0));
    row("median latency", large.ratio(small, |run| run.measured.median), Target::Most(2.0));
    row("processor time per review", large.ratio(small, |run| run.cost), Target::Most(2.0));
}

/// Fires until there were so many more reviews; how many there were.
fn more(server: &Server, shot: &Shot, wanted: u64) -> u64 {
    let mut fired = 0;
    while fired < wanted {
        fired += shot.fire(&server.url, 16, crate::FULL.slice).requests;
        server.clear_log();
    }
    fired
}

/// Allowances, everything else, hits of the cache, misses.
type Judged = [u64; 4];

fn judged(server: &Server) -> Judged {
    // Counters are whole numbers, and far below what a double holds exactly.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = |name: &str| server.metric(name) as u64;
    let reviews = |outcome: &str| count(&format!("podseal_reviews_total{{outcome=\"{outcome}\"}}"));
    let cache = |result: &str| count(&format!("podseal_cache_total{{result=\"{result}\"}}"));
    [reviews("allowed"), reviews("denied") + reviews("error"), cache("hit"), cache("miss")]
}

fn check(server: &Server, before: Judged, least: u64) {
    let after = judged(server);
    let [allowed, others, hits, misses] = std::array::from_fn(|i| after[i] - before[i]);
    // wrk does not count what was in flight when it stopped.
    assert!(allowed >= least && allowed == hits && others == 0 && misses == 0, "{before:?} {after:?} {least}");
}
