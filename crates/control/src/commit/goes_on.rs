//! Work that must not end half way because whoever waits for it goes away.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Done by whoever waits for it, and to its end in a task of its own when nobody does any longer. A task from the start
/// would cost two more turns of the runtime each time, and clients nearly always wait.
pub(super) struct GoesOn<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// Until it is done.
    work: Option<Pin<Box<F>>>,
}

impl<F: Future<Output: Send> + Send + 'static> GoesOn<F> {
    /// Begins when it is first waited for.
    pub(super) fn with(work: F) -> Self {
        Self { work: Some(Box::pin(work)) }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for GoesOn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Out of its place meanwhile: what has panicked does not go on.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let outcome = work.as_mut().poll(context);
        if outcome.is_pending() {
            self.work = Some(work);
        }
        outcome
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for GoesOn<F> {
    fn drop(&mut self) {
        // Without a runtime the process is ending.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_waits_gets_the_outcome() {
        assert_eq!(GoesOn::with(async { 7 }).await, 7);
    }

    #[tokio::test]
    async fn it_is_done_when_nobody_waits_any_longer() {
        let (go, may_go) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let work = GoesOn::with(async move {
            may_go.await.unwrap();
            done.send("to its end").unwrap();
        });
        assert!(tokio::time::timeout(Duration::ZERO, work).await.is_err());
        go.send(()).unwrap();
        assert_eq!(is_done.await.unwrap(), "to its end");
    }

    #[tokio::test]
    async fn what_panics_does_not_go_on() {
        let (held, let_go) = oneshot::channel::<()>();
        let work = GoesOn::with(async move {
            let _held = held;
            tokio::task::yield_now().await;
            panic!("half way");
        });
        assert!(tokio::spawn(work).await.unwrap_err().is_panic());
        assert!(let_go.await.is_err(), "nothing holds what it held");
    }
}
