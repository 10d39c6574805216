//! The stories, each true of every cache that has the feature.

mod fences;
mod foreign;
mod many;
mod names;
mod owners;
mod races;
mod requests;
mod restarts;
mod selectors;
mod tiers;
mod withdrawn;

pub use fences::*;
pub use foreign::*;
pub use many::*;
pub use names::*;
pub use owners::*;
pub use races::*;
pub use requests::*;
pub use restarts::*;
pub use selectors::*;
pub use tiers::*;
pub use withdrawn::*;

use crate::feature::Feature;
use crate::matrix;
use crate::subject::Subject;

/// Runs a story if the cache has the feature, and notes the result for the table.
async fn story<S: Subject>(feature: Feature, play: impl AsyncFnOnce()) {
    let lacks = S::lacks(feature)
        .or_else(|| (feature.is_of_tiers() && !S::TIERS).then_some("knows of no parents yet"));
    let result = match lacks {
        Some(why) => Err(why),
        None => {
            play().await;
            Ok(())
        }
    };
    if S::LISTED {
        matrix::note(S::NAME, feature, result);
    }
}
