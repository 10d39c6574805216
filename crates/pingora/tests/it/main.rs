//! The example's proxy between a visitor and an origin, with purges applied by hand.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

#[expect(dead_code, reason = "its main is not called")]
#[path = "../../examples/minimal.rs"]
mod minimal;
#[allow(dead_code, reason = "the reference proxy's stories need more of it")]
#[path = "../../../proxy/tests/it/origin.rs"]
mod origin;
mod purges;
mod rig;
#[allow(dead_code, reason = "the reference proxy's stories need more of it")]
#[path = "../../../proxy/tests/it/visitor.rs"]
mod visitor;
