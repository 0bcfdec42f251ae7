//! How far apart the two cores were while something was measured, and which pairs may be compared.
//!
//! Two threads on two cores take 50 to 90 ns for a round trip of one cache line where the cores share a cache, and 290
//! to 340 ns where they do not. A virtual machine changes between the two by itself, and rows differ up to fivefold
//! between them. So a pair counts only if both of its measurements saw the same.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::report::median;

/// Between the two groups that are seen, each at least as far from it as it is wide.
pub(crate) const NEAR_BELOW_NANOS: f64 = 170.0;

/// Round trips of a cache line just before and just after a measurement, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Distance {
    pub(crate) before: f64,
    pub(crate) after: f64,
}

/// Where the cores were during a measurement or a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    Near,
    Far,
    /// They changed meanwhile.
    Mixed,
    /// Nobody could tell.
    Unknown,
}

impl Cores {
    /// Where they were during a measurement.
    pub(crate) fn during(distance: Option<Distance>) -> Cores {
        let near = |nanos: f64| nanos < NEAR_BELOW_NANOS;
        match distance.map(|distance| (near(distance.before), near(distance.after))) {
            Some((true, true)) => Cores::Near,
            Some((false, false)) => Cores::Far,
            Some(_) => Cores::Mixed,
            None => Cores::Unknown,
        }
    }

    /// Where they were during both measurements of a pair.
    fn of_pair(ours: Cores, theirs: Cores) -> Cores {
        match (ours, theirs) {
            (Cores::Unknown, _) | (_, Cores::Unknown) => Cores::Unknown,
            (ours, theirs) if ours == theirs => ours,
            _ => Cores::Mixed,
        }
    }
}

/// The ratios of a row's pairs, by where the cores were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs {
    near: Vec<f64>,
    far: Vec<f64>,
    unknown: Vec<f64>,
    mixed: usize,
}

impl Pairs {
    /// Sorts pairs of figures, each with the place of the cores while it was measured.
    pub(crate) fn new(pairs: impl IntoIterator<Item = ((f64, Cores), (f64, Cores))>) -> Pairs {
        let mut sorted = Pairs::default();
        for ((ours, our_cores), (theirs, their_cores)) in pairs {
            let ratio = ours / theirs;
            match Cores::of_pair(our_cores, their_cores) {
                Cores::Near => sorted.near.push(ratio),
                Cores::Far => sorted.far.push(ratio),
                Cores::Unknown => sorted.unknown.push(ratio),
                Cores::Mixed => sorted.mixed += 1,
            }
        }
        sorted
    }

    /// The median over all pairs that compare like with like.
    pub(crate) fn ratio(&self) -> Option<f64> {
        median([&self.near[..], &self.far, &self.unknown].concat())
    }

    /// The medians of the near and of the far pairs, where there are both.
    pub(crate) fn apart(&self) -> Option<(f64, f64)> {
        median(self.near.clone()).zip(median(self.far.clone()))
    }

    /// How many pairs were near, far and mixed.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.near.len(), self.far.len(), self.mixed)
    }
}

/// The form of the tables: `5 near, 3 far, 1 mixed: near 5.90, far 4.10`; nothing where nobody could tell.
impl std::fmt::Display for Pairs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counted = [(self.near.len(), "near"), (self.far.len(), "far"), (self.mixed, "mixed")];
        let parts = counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))?;
        match self.apart() {
            Some((near, far)) => write!(f, ": near {near:.2}, far {far:.2}"),
            None => Ok(()),
        }
    }
}

/// Asks `program`, which any subject is, for the time of a round trip; nothing where it cannot tell.
pub(crate) fn measure(program: &Path) -> Option<f64> {
    let output = Command::new(program).arg("role=distance").output().ok()?;
    let value: Value = serde_json::from_slice(&output.stdout).ok()?;
    value.get("nanos").and_then(Value::as_f64)
}

/// What a run saw, in one line; nothing where nobody could tell.
pub(crate) fn summary(distances: &[Distance]) -> Option<String> {
    let count = |cores| distances.iter().filter(|distance| Cores::during(Some(**distance)) == cores).count();
    let seen = |near: bool| {
        let all = distances.iter().flat_map(|distance| [distance.before, distance.after]);
        median(all.filter(|nanos| (*nanos < NEAR_BELOW_NANOS) == near).collect())
    };
    let said = |near: bool| seen(near).map_or("none".to_owned(), |nanos| format!("{nanos:.0} ns"));
    (!distances.is_empty()).then(|| {
        format!(
            "a cache line went between the two cores and back in {} (near, median) or {} (far): {} measurements were near, {} far, and {} saw a change",
            said(true),
            said(false),
            count(Cores::Near),
            count(Cores::Far),
            count(Cores::Mixed)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn during(before: f64, after: f64) -> Cores {
        Cores::during(Some(Distance { before, after }))
    }

    #[test]
    fn a_measurement_is_near_or_far_only_if_it_was_so_before_and_after() {
        assert_eq!(during(50.0, 90.0), Cores::Near);
        assert_eq!(during(290.0, 340.0), Cores::Far);
        assert_eq!(during(60.0, 300.0), Cores::Mixed);
        assert_eq!(during(300.0, 60.0), Cores::Mixed);
        assert_eq!(Cores::during(None), Cores::Unknown);
    }

    #[test]
    fn a_pair_counts_only_if_both_measurements_saw_the_same() {
        let (near, far, mixed) = (Cores::Near, Cores::Far, Cores::Mixed);
        let pairs = Pairs::new([
            ((10.0, near), (2.0, near)),
            ((12.0, near), (2.0, near)),
            ((6.0, far), (2.0, far)),
            ((10.0, near), (0.1, far)),
            ((10.0, mixed), (0.1, mixed)),
            ((10.0, near), (0.1, mixed)),
        ]);
        assert_eq!(pairs.counts(), (2, 1, 3));
        assert_eq!(pairs.ratio(), Some(5.0));
        assert_eq!(pairs.apart(), Some((5.5, 3.0)));
        assert_eq!(pairs.to_string(), "2 near, 1 far, 3 mixed: near 5.50, far 3.00");
    }

    #[test]
    fn of_pairs_that_were_all_near_or_all_mixed_nothing_is_told_apart() {
        let all_near = Pairs::new([((3.0, Cores::Near), (1.0, Cores::Near))]);
        assert_eq!((all_near.ratio(), all_near.apart()), (Some(3.0), None));
        assert_eq!(all_near.to_string(), "1 near");
        let all_mixed = Pairs::new([((3.0, Cores::Near), (1.0, Cores::Far))]);
        assert_eq!((all_mixed.ratio(), all_mixed.counts()), (None, (0, 0, 1)));
    }

    #[test]
    fn where_nobody_can_tell_every_pair_counts() {
        let pairs = Pairs::new([((3.0, Cores::Unknown), (1.0, Cores::Unknown))]);
        assert_eq!((pairs.ratio(), pairs.to_string()), (Some(3.0), String::new()));
    }

    #[test]
    fn a_run_is_summed_up_in_one_line() {
        let line = summary(&[
            Distance { before: 60.0, after: 80.0 },
            Distance { before: 70.0, after: 300.0 },
            Distance { before: 310.0, after: 320.0 },
        ]);
        let line = line.unwrap();
        assert!(line.contains("70 ns (near") && line.contains("310 ns (far"), "{line}");
        assert!(line.contains("1 measurements were near, 1 far, and 1 saw a change"), "{line}");
        assert_eq!(summary(&[]), None);
    }
}
