//! Nothing but a home for `tests/shells`: the real gRPC server of the control plane and the real daemon over a network
//! that is simulated, in virtual time.
