//! Many rounds as five numbers.

use serde::Serialize;

/// Least, quarters and most of some numbers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// A quarter is not above it.
    pub p25: f64,
    /// Half is not above it.
    pub median: f64,
    /// Three quarters are not above it.
    pub p75: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// The spread of `numbers`; `None` when there is none.
    pub fn of(numbers: &[f64]) -> Option<Spread> {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Spread {
            min: *sorted.first()?,
            p25: at(&sorted, 0.25),
            median: at(&sorted, 0.5),
            p75: at(&sorted, 0.75),
            max: *sorted.last()?,
        })
    }
}

/// Between the two nearest, in proportion.
fn at(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_rounds_are_their_own_five_numbers() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        let five = [
            spread.min,
            spread.p25,
            spread.median,
            spread.p75,
            spread.max,
        ];
        assert_eq!(five, [1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn few_rounds_are_interpolated() {
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of(&[7.0]).unwrap().p75, 7.0);
        assert_eq!(Spread::of(&[]), None);
    }
}
