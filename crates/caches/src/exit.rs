use batoff_program::exit::{Ends, Exit};

use crate::CacheOpenError;
use crate::shared::report::CheckError;

impl Ends for CacheOpenError {
    fn exit(&self) -> Exit {
        if self.is_usage() { Exit::Usage } else { Exit::Temporary }
    }
}

impl Ends for CheckError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}
