//! What the errors of a start mean for whoever started the program.

use batoff_log::embedded::{BackupError, OpenError};
use batoff_log_etcd::EtcdOpenError;
use batoff_program::exit::{Ends, Exit};

use crate::backup::BackupFailed;
use crate::engine::EngineError;
use crate::init::InitError;
use crate::seat::LockError;
use crate::server::StartError;

impl Ends for StartError {
    fn exit(&self) -> Exit {
        match self {
            Self::Secrets(error) => error.exit(),
            Self::Tls { .. } | Self::Revoked(_) | Self::NotAlone => Exit::Usage,
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
        | OpenError::Format { .. }
        | OpenError::Copy { .. }
        | OpenError::Lost { .. } => Exit::Usage,
    }
}
