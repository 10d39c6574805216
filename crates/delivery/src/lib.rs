//! Who has what, and who may serve: both ends of the delivery protocol as state machines without IO
