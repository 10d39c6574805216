/// What happens, a line each, for people who look at one seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trace {
    pub(crate) on: bool,
}

impl Trace {
    /// Prints a line, if anybody reads: true time in seconds, who, what.
    pub(crate) fn line(self, now: u64, who: &str, what: impl FnOnce() -> String) {
        if self.on {
            println!("{:10.6}  {who:<12} {}", now as f64 / 1e6, what());
        }
    }
}
