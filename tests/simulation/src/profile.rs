use std::str::FromStr;

/// Which faults a run has. Mostly the seed chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// All kinds, at random.
    Everything,
    /// One node again and again: its daemon is away for longer than a lease, and then dies while it catches up, whenever
    /// it has stored enough for a lease and less than it has just acknowledged. What this looks for, random faults find
    /// once in thousands of runs.
    Relapses,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Everything, Self::Relapses];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Relapses => "relapses",
        }
    }

    /// One run in eight looks for relapses.
    pub(crate) const fn of(seed: u64) -> Self {
        if seed % 8 == 5 { Self::Relapses } else { Self::Everything }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|profile| profile.as_str() == text);
        let names = || Self::ALL.map(Self::as_str).join(", ");
        found.ok_or_else(|| format!("no profile is named {text:?}; there are {}", names()))
    }
}
