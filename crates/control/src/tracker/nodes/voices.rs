use std::collections::HashMap;
use std::sync::Arc;

use batoff_types::Parent;
use batoff_types::message::Parents;
use tokio::sync::watch;

/// What the streams of nodes are told of their parents. Nodes that name the same ones listen to one voice.
#[derive(Debug, Default)]
pub(in crate::tracker) struct Voices(pub(super) HashMap<Arc<[Parent]>, watch::Sender<Parents>>);
