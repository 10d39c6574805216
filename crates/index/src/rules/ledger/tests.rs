//! Places whose fingerprints are the same: never narrower than what was purged, whatever is folded and forgotten.

use batoff_types::{CacheTags, SiteTable};
use proptest::prelude::*;

use super::*;
use crate::Verdict;
use crate::rules::{CarriedTags, Target};

#[derive(Clone, Debug)]
enum Step {
    Raise(Place, bool),
    Fold,
    Forget(u64),
}

fn places() -> impl Strategy<Value = Place> {
    let text = "[ab]{1,3}";
    prop_oneof![
        4 => text.prop_map(|path| Place::Url(format!("a.test/{path}").into())),
        4 => text.prop_map(|path| Place::Prefix(format!("a.test/{path}").into())),
        4 => text.prop_map(|tag| Place::Tag("one".parse().unwrap(), tag.parse().unwrap())),
        1 => Just(Place::Host("a.test".parse().unwrap())),
        1 => Just(Place::Site("one".parse().unwrap())),
        2 => Just(Place::Overflow("one".parse().unwrap())),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        8 => (places(), any::<bool>()).prop_map(|(place, soft)| Step::Raise(place, soft)),
        1 => Just(Step::Fold),
        1 => (0..20_u64).prop_map(Step::Forget),
    ];
    proptest::collection::vec(one, 1..60)
}

fn hits(place: &Place, key: &str, tags: &CacheTags) -> bool {
    match place {
        Place::Url(text) => &**text == key,
        Place::Prefix(text) => key.starts_with(&**text),
        Place::Tag(_, purged) => tags.tags.contains(purged),
        Place::Overflow(_) => tags.overflows(),
        Place::Host(_) | Place::Site(_) | Place::Whole => true,
    }
}

proptest! {
    /// All texts share one, two or eight fingerprints.
    #[test]
    fn places_that_meet_are_widened_and_neither_takes_the_other_away(bits in 0..4_u32, steps in steps()) {
        let mut sites = SiteTable::default();
        sites.set(&"one".parse().unwrap(), Some(&["a.test".parse().unwrap()]));
        let mut rules = Rules::default();
        rules.printer.same = u64::MAX << bits;
        let mut ledger = Ledger::default();
        let mut purged = Vec::new();
        let mut forgotten = 0;
        for (seq, step) in (1..).zip(steps) {
            match step {
                Step::Raise(place, soft) => {
                    ledger.raise(&mut rules, &sites, &place, (seq, soft), 0);
                    purged.push((place, seq, soft));
                }
                Step::Fold => drop(ledger.fold_oldest(&mut rules, &sites)),
                Step::Forget(back) => {
                    forgotten = forgotten.max(seq.saturating_sub(back));
                    while ledger.forget(&mut rules, forgotten, 2) > 0 {}
                }
            }
            if seq % 16 == 0 {
                ledger.renew_filter(&mut rules);
            }
        }
        let mut again = (Rules::default(), Ledger::default());
        for Rule { place, hard, soft } in ledger.since(&rules, 0) {
            for (seq, soft) in [(hard, false), (soft, true)] {
                if let Some(seq) = seq {
                    again.1.raise(&mut again.0, &sites, &place, (seq.get(), soft), u64::MAX);
                }
            }
        }
        for (key, tag) in [("a.test/a", "b"), ("a.test/ab", "ab"), ("a.test/bab", "bb"), ("a.test/c", "a b")] {
            let tags = CacheTags::parse([tag.as_bytes()]);
            let object = Target { key, host: "a.test", tags: CarriedTags::Given(&tags) };
            for applied in [forgotten, forgotten + 3, 30] {
                let expected = purged
                    .iter()
                    .filter(|(place, seq, _)| *seq > applied.max(forgotten) && hits(place, key, &tags))
                    .map(|(_, _, soft)| if *soft { Verdict::Stale } else { Verdict::Gone })
                    .max()
                    .unwrap_or(Verdict::Fresh);
                prop_assert!(rules.verdict(&sites, &object, applied) >= expected);
                prop_assert!(again.0.verdict(&sites, &object, applied) >= expected, "after a restart");
            }
        }
    }
}
