use batoff_program::exit::{Ends, Exit};

use crate::StartError;

impl Ends for StartError {
    fn exit(&self) -> Exit {
        if self.is_usage() { Exit::Usage } else { Exit::Temporary }
    }
}
