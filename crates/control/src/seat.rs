//! Which of the control planes beside one log this process is, and until when it may act as that. The clocked shell of
//! [`batoff_delivery::Seat`], which alone decides both.
//!
//! A replica is a seat that one process after the other takes. Over etcd a process registers in the seat's row, waits until
//! its predecessor has certainly stopped, and from then on shows once a second that nobody has registered since
//! ([`SeatKeeper`]). What it holds is its [`Tenure`]: the roster grants and states within it, and rows that are the
//! replica's own word are written only while the seat's row is the one that this process has written.
//!
//! A control plane with its log in the data folder is alone: replica 1, without a seat to lose. Its store's lock and the
//! tracker's term say whose the log is.

mod keeper;
mod lock;
mod places;
mod row;
mod tenure;

pub use self::keeper::{SeatKeeper, SeatWanted};
pub use self::lock::{FolderLock, LockError};
pub(crate) use self::places::PLACES;
pub use self::places::ReplicaPlaces;
pub use self::tenure::{SeatLost, SeatStage, Tenure};
