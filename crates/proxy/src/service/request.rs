use pingora::proxy::Session;

use crate::shield::{Asked, Shield, X_BATOFF_SEQ};

/// What a child wants, if this request is a child's.
pub(super) fn asked(session: &Session, shield: &Shield) -> Option<Asked> {
    let value = session.req_header().headers.get(X_BATOFF_SEQ)?;
    let from = session.client_addr()?.as_inet()?.ip();
    shield.asked(from, value.as_bytes())
}
