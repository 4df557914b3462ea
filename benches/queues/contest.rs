//! Contests: plba and those it is measured beside take turns, round by round, so that a noisy neighbour slows all of them;
//! what counts is the median of the quotients of the rounds.

use async_trait::async_trait;
use plba_benches::pairs::median;
use plba_benches::report::{Figure, Goal, Good, not_run};

use crate::Result;
use crate::seen::{Seen, quantile};

/// How often plba and the control take part; peers are slower, and take part in every other round.
const ROUNDS: usize = 5;
const WORKERS: [u32; 2] = [1, 4];
/// What a task may take to a consumer that waits, in milliseconds, at the 99th percentile.
const PICKUP: f64 = 5.0;

/// Who carries out tasks.
#[async_trait]
pub(crate) trait Contestant: Send + Sync {
    /// For people.
    fn name(&self) -> String;

    /// Whether so many consumers can be had.
    fn can_have(&self, workers: u32) -> bool {
        let _ = workers;
        true
    }

    /// Enqueues tasks, then carries them out by so many consumers, from nothing.
    async fn pace(&self, workers: u32) -> Result<Seen>;

    /// Has a consumer wait, and enqueues one task after the other; nothing, where that makes no sense.
    async fn pickups(&self) -> Result<Seen>;
}

/// One whom plba is measured beside.
pub(crate) struct Rival {
    pub(crate) contestant: Box<dyn Contestant>,
    /// What plba's figures should be at least, in terms of the rival's: enqueueing and carrying out.
    pub(crate) enqueue: Option<f64>,
    pub(crate) process: Option<f64>,
    /// The limit takes part in each round; it can't be absent.
    pub(crate) is_control: bool,
}

impl Rival {
    pub(crate) fn control(contestant: impl Contestant + 'static, enqueue: f64, process: f64) -> Self {
        Self {
            contestant: Box::new(contestant),
            enqueue: Some(enqueue),
            process: Some(process),
            is_control: true,
        }
    }

    pub(crate) fn peer(contestant: impl Contestant + 'static, process: f64) -> Self {
        Self {
            contestant: Box::new(contestant),
            enqueue: None,
            process: Some(process),
            is_control: false,
        }
    }
}

/// One backend.
pub(crate) struct Contest {
    /// For people.
    pub(crate) name: String,
    pub(crate) ours: Box<dyn Contestant>,
    pub(crate) rivals: Vec<Rival>,
}

/// What was seen of plba and of one rival, one right after the other.
struct Turn {
    rival: usize,
    workers: u32,
    ours: Seen,
    theirs: Seen,
}

impl Contest {
    /// Measures and reports everything.
    pub(crate) async fn run(&self) -> Result<()> {
        let mut absent = vec![None; self.rivals.len()];
        let mut turns = Vec::new();
        for round in 0..ROUNDS {
            for workers in WORKERS {
                self.round(round, workers, &mut turns, &mut absent).await?;
            }
        }
        for (number, rival) in self.rivals.iter().enumerate() {
            match &absent[number] {
                Some(reason) => not_run(&self.name, &rival.contestant.name(), reason)?,
                None => self.report_pace(number, &turns)?,
            }
        }
        self.pickups(&absent).await
    }

    async fn round(
        &self,
        round: usize,
        workers: u32,
        turns: &mut Vec<Turn>,
        absent: &mut [Option<String>],
    ) -> Result<()> {
        let ours = self.ours.pace(workers).await?;
        self.tell(round, workers, "plba", &ours);
        for (number, rival) in self.rivals.iter().enumerate() {
            let rests = !rival.is_control && round % 2 == 1;
            if rests || absent[number].is_some() || !rival.contestant.can_have(workers) {
                continue;
            }
            let theirs = match rival.contestant.pace(workers).await {
                Ok(theirs) => theirs,
                Err(error) if !rival.is_control => {
                    absent[number] = Some(error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.tell(round, workers, &rival.contestant.name(), &theirs);
            turns.push(Turn {
                rival: number,
                workers,
                ours: ours.clone(),
                theirs,
            });
        }
        Ok(())
    }

    fn tell(&self, round: usize, workers: u32, who: &str, seen: &Seen) {
        let pace = |pace: Option<f64>| pace.map_or_else(|| "-".to_owned(), |pace| format!("{pace:.0}/s"));
        eprintln!(
            "{}: round {}, {workers} consumers: {who}: enqueue {}, process {} {}",
            self.name,
            round + 1,
            pace(seen.enqueue),
            pace(seen.process),
            seen.note.as_deref().unwrap_or_default(),
        );
    }

    fn report_pace(&self, rival: usize, turns: &[Turn]) -> Result<()> {
        let turns: Vec<&Turn> = turns.iter().filter(|turn| turn.rival == rival).collect();
        let goals = &self.rivals[rival];
        self.report_rate("enqueue", rival, &turns, |seen| seen.enqueue, goals.enqueue)?;
        for workers in WORKERS {
            let of: Vec<&Turn> = turns.iter().copied().filter(|turn| turn.workers == workers).collect();
            let what = if workers == 1 {
                "process, 1 consumer"
            } else {
                "process, 4 consumers"
            };
            self.report_rate(what, rival, &of, |seen| seen.process, goals.process)?;
        }
        Ok(())
    }

    fn report_rate(
        &self,
        what: &str,
        rival: usize,
        turns: &[&Turn],
        rate: impl Fn(&Seen) -> Option<f64>,
        goal: Option<f64>,
    ) -> Result<()> {
        let pairs: Vec<(f64, f64)> = turns
            .iter()
            .filter_map(|turn| Some((rate(&turn.ours)?, rate(&turn.theirs)?)))
            .collect();
        let (Some(value), Some(peer_value), Some(ratio)) = (
            median(pairs.iter().map(|(ours, _)| *ours)),
            median(pairs.iter().map(|(_, theirs)| *theirs)),
            median(pairs.iter().map(|(ours, theirs)| ours / theirs)),
        ) else {
            return Ok(());
        };
        let figure = Figure {
            name: &format!("{}: {what}", self.name),
            value,
            unit: "tasks/s",
            good: Good::High,
            peer: &self.rivals[rival].contestant.name(),
            peer_value,
            ratio,
            goal: goal.map(Goal::RatioAtLeast),
        };
        Ok(figure.report()?)
    }

    /// Two sessions of plba's, with those of the rivals in between.
    async fn pickups(&self, absent: &[Option<String>]) -> Result<()> {
        let mut ours = self.ours.pickups().await?.pickups;
        let mut theirs = Vec::new();
        for (number, rival) in self
            .rivals
            .iter()
            .enumerate()
            .filter(|(number, _)| absent[*number].is_none())
        {
            match rival.contestant.pickups().await {
                Ok(seen) => theirs.push((number, seen.pickups)),
                Err(error) => not_run(
                    &format!("{}: pick-up when idle", self.name),
                    &rival.contestant.name(),
                    &error.to_string(),
                )?,
            }
        }
        ours.extend(self.ours.pickups().await?.pickups);
        for (what, share) in [("pick-up when idle, p50", 0.5), ("pick-up when idle, p99", 0.99)] {
            let Some(value) = quantile(&ours, share) else { continue };
            let goal = (share > 0.9).then_some(Goal::Below(PICKUP));
            let mut beside: Vec<(String, f64)> = theirs
                .iter()
                .filter_map(|(rival, spans)| Some((self.rivals[*rival].contestant.name(), quantile(spans, share)?)))
                .collect();
            if beside.is_empty() {
                beside.push(("the goal".to_owned(), PICKUP));
            }
            for (peer, peer_value) in beside {
                let figure = Figure {
                    name: &format!("{}: {what}", self.name),
                    value,
                    unit: "ms",
                    good: Good::Low,
                    peer: &peer,
                    peer_value,
                    ratio: value / peer_value,
                    goal,
                };
                figure.report()?;
            }
        }
        Ok(())
    }
}
