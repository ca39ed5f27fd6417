//! Which combinations of attributes are strata of their own: the common ones. The rare are pooled.

use std::collections::BTreeMap;

use super::AtRisk;

/// Most strata, the pool of the rare ones included.
pub const STRATA_MAX: usize = 20;
/// A stratum with fewer terminals in either arm hardly ever has somebody to compare with.
const ARM_MIN: u64 = 10;

/// The keys that are strata of their own, largest first; terminals with any other key share one more stratum. Decided from
/// how many terminals each arm has, before anything has failed, so that it cannot favour an outcome.
pub fn kept_strata<K: Ord + Clone>(sizes: &BTreeMap<K, AtRisk>) -> Vec<K> {
    let size = |arms: &AtRisk| arms.treated.saturating_add(arms.control);
    let mut keys: Vec<_> =
        sizes.iter().filter(|(_, arms)| arms.treated >= ARM_MIN && arms.control >= ARM_MIN).collect();
    keys.sort_by(|a, b| size(b.1).cmp(&size(a.1)).then_with(|| a.0.cmp(b.0)));
    let is_pooling = keys.len() < sizes.len() || keys.len() > STRATA_MAX;
    keys.truncate(if is_pooling { STRATA_MAX - 1 } else { STRATA_MAX });
    keys.into_iter().map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_strata_are_pooled_and_there_are_at_most_twenty() {
        let sizes = |rows: &[(&'static str, u64, u64)]| {
            rows.iter().map(|(key, treated, control)| (*key, AtRisk { treated: *treated, control: *control })).collect()
        };
        let some: BTreeMap<_, _> = sizes(&[("A", 50, 500), ("B", 90, 900), ("rare", 9, 900), ("new", 900, 0)]);
        assert_eq!(kept_strata(&some), ["B", "A"]);
        let equal = |n: u64| (0..n).map(|key| (key, AtRisk { treated: 100, control: 100 })).collect::<BTreeMap<_, _>>();
        assert_eq!(kept_strata(&equal(20)).len(), 20);
        assert_eq!(kept_strata(&equal(21)).len(), 19, "the others share the twentieth");
        assert_eq!(kept_strata(&BTreeMap::<u8, AtRisk>::new()), Vec::<u8>::new());
    }
}
