//! The proxy between a visitor and an origin, with purges applied by hand.

mod collapsing;
mod fence;
mod freshness;
mod origin;
mod purges;
mod races;
mod rig;
mod room;
mod visitor;
