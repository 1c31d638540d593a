//! Figures: medians over paired runs, printed as JSON lines.

use std::time::Duration;

use serde::Serialize;

/// What a ratio should come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// A thing and its baseline, measured in the same run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The thing.
    pub value: f64,
    /// What it is measured against.
    pub baseline: f64,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    value: f64,
    unit: &'a str,
    baseline: f64,
    ratio: f64,
    target: String,
    met: bool,
    runs: usize,
}

/// Prints a figure: the median value, the median baseline, the median of each run's ratio.
///
/// # Panics
/// Without any run.
pub fn print(name: &str, unit: &str, target: Target, pairs: &[Pair]) {
    let ratio = median(pairs.iter().map(|pair| pair.value / pair.baseline));
    print_judged(name, unit, target, pairs, ratio);
}

/// The same, with the target for the value itself instead of its ratio.
///
/// # Panics
/// Without any run.
pub fn print_absolute(name: &str, unit: &str, target: Target, pairs: &[Pair]) {
    print_judged(name, unit, target, pairs, median(pairs.iter().map(|pair| pair.value)));
}

fn print_judged(name: &str, unit: &str, target: Target, pairs: &[Pair], judged: f64) {
    let (text, met) = match target {
        Target::AtMost(most) => (format!("<= {most}"), judged <= most),
        Target::AtLeast(least) => (format!(">= {least}"), judged >= least),
    };
    let line = Line {
        name,
        value: round(median(pairs.iter().map(|pair| pair.value))),
        unit,
        baseline: round(median(pairs.iter().map(|pair| pair.baseline))),
        ratio: round(median(pairs.iter().map(|pair| pair.value / pair.baseline))),
        target: text,
        met,
        runs: pairs.len(),
    };
    println!("{}", serde_json::to_string(&line).unwrap_or_else(|error| panic!("{name}: {error}")));
}

/// The middle one.
///
/// # Panics
/// Without any.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The smallest value that this part of all values does not exceed.
///
/// # Panics
/// Without any.
pub fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    assert!(!sorted.is_empty(), "nothing was measured");
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = ((sorted.len() as f64 * part).ceil() as usize).saturating_sub(1);
    sorted[index.min(sorted.len() - 1)]
}

/// Milliseconds.
#[must_use]
pub fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = || (1..=200).map(f64::from);
        assert_eq!(
            (median(values()), quantile(values(), 0.99), quantile(values(), 1.0)),
            (100.0, 198.0, 200.0)
        );
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
    }
}
