use std::collections::BTreeMap;

/// Buckets of one octave. A value is told at most 1/32 too large.
const PER_OCTAVE: u64 = 32;

/// How often each propagation time occurred: exact below 64 ms, in steps of 1/32 above. Sparse, and sums of it are
/// exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    buckets: BTreeMap<u32, u64>,
}

impl Histogram {
    pub(super) fn record(&mut self, millis: u64) {
        *self.buckets.entry(bucket_of(millis)).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            let sum = self.buckets.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// A value that at least so many of a thousand do not exceed; 0 of none.
    pub(super) fn quantile(&self, per_mille: u64) -> u64 {
        let rank = u128::from(self.count()) * u128::from(per_mille);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen += u128::from(*count) * 1_000;
            if seen >= rank {
                return top_of(*bucket);
            }
        }
        0
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.buckets.iter().map(|(bucket, count)| (*bucket, *count))
    }

    pub(super) fn from_pairs(pairs: impl IntoIterator<Item = (u32, u64)>) -> Self {
        Self { buckets: pairs.into_iter().collect() }
    }
}

fn bucket_of(value: u64) -> u32 {
    if value < 2 * PER_OCTAVE {
        // Below 64, so it fits.
        return value as u32;
    }
    let shift = u64::from(value.ilog2()) - 5;
    // At most 59 octaves of 32.
    (shift * PER_OCTAVE + (value >> shift)) as u32
}

/// The greatest value of a bucket.
fn top_of(bucket: u32) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 2 * PER_OCTAVE {
        return bucket;
    }
    let shift = bucket / PER_OCTAVE - 1;
    let lead = PER_OCTAVE + bucket % PER_OCTAVE;
    // The next bucket's first value, less one; the last bucket ends with u64.
    lead.saturating_add(1).checked_shl(shift as u32).map_or(u64::MAX, |next| next.wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_a_bucket_that_ends_at_most_a_thirty_second_above_it() {
        let edges = (0..63).flat_map(|power| [(1_u64 << power) - 1, 1 << power, (1 << power) + 1]);
        for value in (0..5_000).chain(edges) {
            let top = top_of(bucket_of(value));
            assert!(value <= top && top - value <= value / 32, "{value} {top}");
            assert_eq!(bucket_of(top), bucket_of(value), "{value}");
        }
        assert_eq!(top_of(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        (1..=1_000).for_each(|value| histogram.record(value));
        assert_eq!(histogram.count(), 1_000);
        for (per_mille, exact) in [(1, 1), (50, 50), (500, 500), (950, 950), (990, 990), (999, 999)] {
            let told = histogram.quantile(per_mille);
            assert!(exact <= told && told <= exact + exact / 32, "{per_mille}: {told}");
        }
        assert_eq!(Histogram::default().quantile(999), 0);
    }
}
