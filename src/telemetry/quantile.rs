//! What happened between two looks at counters that only grow.

/// How much was added. A counter that shrank began anew meanwhile, from 0.
#[must_use]
pub fn added(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// The same for a histogram's buckets: if one of them shrank, all began anew.
#[must_use]
pub fn added_to_all(before: &[u64], now: &[u64]) -> Vec<u64> {
    let differences =
        before.iter().zip(now).map(|(before, now)| now.checked_sub(*before)).collect();
    match differences {
        Some(differences) if before.len() == now.len() => differences,
        _ => now.to_vec(),
    }
}

/// The value that this share of them (0 to 1) does not exceed, as if each bucket's
/// were spread evenly over it. Of the last bucket, which has no end, its beginning;
/// of nothing nothing.
#[must_use]
pub fn quantile(bounds: &[f64], buckets: &[u64], share: f64) -> Option<f64> {
    let total: u64 = buckets.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = total as f64 * share;
    let mut below = 0;
    let mut from = 0.0;
    let ends = bounds.iter().map(Some).chain(std::iter::once(None));
    for (count, end) in buckets.iter().zip(ends) {
        let Some(end) = end else { return Some(from) };
        let within = wanted - below as f64;
        if *count > 0 && within <= *count as f64 {
            return Some(from + (end - from) * (within / *count as f64).max(0.0));
        }
        below += count;
        from = *end;
    }
    Some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 3] = [1.0, 2.0, 10.0];

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let of = |buckets: [u64; 4], share| quantile(&BOUNDS, &buckets, share);
        assert_eq!(of([0; 4], 0.5), None);
        assert_eq!(of([10, 0, 0, 0], 0.5), Some(0.5));
        assert_eq!(of([1, 1, 0, 0], 0.5), Some(1.0));
        // Empty buckets between do not count.
        assert_eq!(of([1, 0, 1, 0], 0.75), Some(6.0));
        assert_eq!(of([0, 0, 100, 0], 0.99), Some(2.0 + 8.0 * 0.99));
        assert_eq!(of([0, 0, 0, 3], 0.5), Some(10.0));
        assert_eq!(of([99, 0, 0, 1], 0.99), Some(1.0));
        assert_eq!(of([98, 0, 0, 2], 0.99), Some(10.0));
        assert_eq!((of([0, 4, 0, 0], 0.0), of([0, 4, 0, 0], 1.0)), (Some(1.0), Some(2.0)));
    }

    #[test]
    fn what_shrank_began_anew() {
        assert_eq!((added(3, 5), added(5, 5), added(5, 2)), (2, 0, 2));
        assert_eq!(added_to_all(&[1, 2], &[1, 5]), [0, 3]);
        assert_eq!(added_to_all(&[1, 2], &[0, 5]), [0, 5]);
        assert_eq!(added_to_all(&[], &[0, 5]), [0, 5]);
    }
}
