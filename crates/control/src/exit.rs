//! What the errors of a start mean for whoever started the program.

use batoff_log::StoreError;
use batoff_log::embedded::{BackupError, OpenError};
use batoff_log_etcd::{EtcdMoveError, EtcdOpenError};
use batoff_program::exit::{Ends, Exit};

use crate::backup::BackupFailed;
use crate::engine::EngineError;
use crate::init::InitError;
use crate::migrate::MigrateFailed;
use crate::seat::LockError;
use crate::server::StartError;

impl Ends for StartError {
    fn exit(&self) -> Exit {
        match self {
            Self::Secrets(error) => error.exit(),
            Self::Tls { .. } | Self::Revoked(_) | Self::Traces(_) => Exit::Usage,
            Self::Listen(error) => error.exit(),
            Self::Threads(_) => Exit::Temporary,
            Self::Open(error) => of_engine(error),
            Self::Seat(_) | Self::Behind { .. } => Exit::Temporary,
            Self::Store(error) if error.retry_after().is_some() => Exit::Temporary,
            Self::Store(_) => Exit::Internal,
        }
    }
}

impl Ends for InitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Io { error, .. } => Exit::of_file(error),
            _ => Exit::Usage,
        }
    }
}

impl Ends for BackupFailed {
    fn exit(&self) -> Exit {
        match self {
            Self::File { source, .. } | Self::Store(BackupError::File { source, .. }) => {
                Exit::of_file(source)
            }
            Self::Open(error) | Self::Store(BackupError::Open(error)) => of_open(error),
            Self::Store(BackupError::Closing | BackupError::Cut { .. } | BackupError::Written(_)) => {
                Exit::Temporary
            }
            Self::Store(BackupError::Store(_)) | Self::Answer(_) | Self::Audit(_) => Exit::Internal,
            Self::InEtcd(_) | Self::Store(_) | Self::Exists(_) | Self::NoStore(_) | Self::Unusable { .. } => {
                Exit::Usage
            }
        }
    }
}

impl Ends for MigrateFailed {
    fn exit(&self) -> Exit {
        match self {
            Self::File { source, .. } => Exit::of_file(source),
            Self::Lock(LockError::File { source, .. }) => Exit::of_file(source),
            Self::Lock(LockError::Held(_)) | Self::Seat(_) => Exit::Temporary,
            Self::Engine(error) => of_engine(error),
            Self::Open(error) => of_open(error),
            Self::Copy(BackupError::File { source, .. } | BackupError::Written(source)) => {
                Exit::of_file(source)
            }
            Self::Copy(BackupError::Open(error)) => of_open(error),
            Self::Copy(BackupError::Occupied(_)) => Exit::Usage,
            Self::Copy(_) => Exit::Internal,
            Self::Etcd(error) => of_etcd(error),
            Self::Answer(error) if error.retry_after().is_some() => Exit::Temporary,
            Self::Answer(_) => Exit::Internal,
            Self::NoEtcd
            | Self::Replica(_)
            | Self::NoStore(_)
            | Self::Occupied(_)
            | Self::Elsewhere { .. }
            | Self::OtherCluster { .. }
            | Self::NotAlone(_) => Exit::Usage,
        }
    }
}

fn of_etcd(error: &EtcdMoveError) -> Exit {
    match error {
        EtcdMoveError::Etcd(_)
        | EtcdMoveError::Open(EtcdOpenError::Etcd(_))
        | EtcdMoveError::Overtaken
        | EtcdMoveError::Inhabited { .. } => Exit::Temporary,
        EtcdMoveError::Store(error) if error.retry_after().is_some() => Exit::Temporary,
        EtcdMoveError::Store(StoreError::Full) => Exit::Temporary,
        EtcdMoveError::Store(_) | EtcdMoveError::Move(_) => Exit::Internal,
        EtcdMoveError::Open(_)
        | EtcdMoveError::Occupied { .. }
        | EtcdMoveError::Foreign { .. }
        | EtcdMoveError::Room { .. }
        | EtcdMoveError::Missing { .. }
        | EtcdMoveError::GoneOn { .. } => Exit::Usage,
    }
}

fn of_engine(error: &EngineError) -> Exit {
    match error {
        EngineError::Embedded(error) => of_open(error),
        EngineError::Etcd(EtcdOpenError::Etcd(_)) => Exit::Temporary,
        EngineError::Etcd(EtcdOpenError::Store(error)) if error.retry_after().is_some() => Exit::Temporary,
        EngineError::Etcd(EtcdOpenError::Store(_)) => Exit::Internal,
        EngineError::File { source, .. } | EngineError::Lock(LockError::File { source, .. }) => {
            Exit::of_file(source)
        }
        EngineError::Lock(LockError::Held(_)) => Exit::Temporary,
        EngineError::Etcd(_)
        | EngineError::OtherLog { .. }
        | EngineError::Open(_)
        | EngineError::HasLog(_) => Exit::Usage,
    }
}

fn of_open(error: &OpenError) -> Exit {
    match error {
        OpenError::Locked { .. } => Exit::Temporary,
        OpenError::Corrupt { .. } => Exit::Internal,
        OpenError::Io { source, .. } => Exit::of_file(source),
        OpenError::Foreign { .. }
        | OpenError::Moved { .. }
        | OpenError::Format { .. }
        | OpenError::Copy { .. }
        | OpenError::Lost { .. } => Exit::Usage,
    }
}
