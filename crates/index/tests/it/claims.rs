//! The documentation's sentences, each as a story.

mod fills;
mod forgetting;
mod memory;
mod scope;
mod sizes;
mod strength;
mod sweeping;
