//! What a row of `kinds!` becomes: a table of the configuration, a word behind `batoff-edge check`, and its part of what is
//! done with all kinds.

macro_rules! kinds {
    ($($(#[$about:meta])* $name:ident: $Kind:ident($Section:ty),)*) => {
        /// `[caches]`: what this daemon drives, one table a kind.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct CachesSection {
            /// Really no cache at all: the daemon follows, keeps its rules and acknowledges. For measuring and for tests.
            #[serde(default)]
            pub none: bool,
            $(
                #[doc = concat!("`[caches.", stringify!($name), "]`")]
                pub $name: Option<$Section>,
            )*
        }

        /// The cache to be looked at.
        #[derive(Clone, Debug, clap::Subcommand)]
        pub enum CacheKind {
            $($(#[$about])* $Kind(<$Section as Section>::Look),)*
        }

        impl CachesSection {
            /// The kinds that are configured.
            fn names(&self) -> Vec<&'static str> {
                let all = [$((stringify!($name), self.$name.is_some())),*];
                all.into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
            }

            /// Whether the keys of all of them have ports.
            pub fn keys_have_ports(&self) -> bool {
                [$(self.$name.is_none() || <$Section>::KEYS_HAVE_PORTS),*].into_iter().all(|has| has)
            }

            /// Whether objects can be registered with one of them.
            pub fn has_registry(&self) -> bool {
                [$(self.$name.is_some() && <$Section>::IS_REGISTRY),*].into_iter().any(|is| is)
            }

            fn validate_each(&self, beside: &Beside) -> Result<(), ConfigError> {
                $(if let Some(section) = &self.$name {
                    Section::validate(section, beside)?;
                })*
                Ok(())
            }

            /// Opens every cache that is configured, in the order of the rows.
            ///
            /// # Errors
            /// The first that cannot be driven.
            pub async fn open(
                &self,
                around: Surroundings,
            ) -> Result<Vec<Box<dyn Cache<Locator>>>, CacheOpenError> {
                let mut caches = Vec::new();
                $(if let Some(section) = &self.$name {
                    caches.extend(Section::open(section, around.clone()).await?);
                })*
                Ok(caches)
            }

            /// Looks at each that is configured, for the doctor.
            pub async fn examine(&self, beside: &Beside<'_>, running: &FolderUse, report: &mut Diagnosis) {
                $(if let Some(section) = &self.$name {
                    let before = report.findings.len();
                    Section::examine(section, beside, running, report).await;
                    if report.findings[before..].iter().all(|finding| finding.severity == Severity::Fine) {
                        let rest = concat!("`batoff-edge check ", stringify!($name), "` shows the rest on the running set-up");
                        report.fine(AREA, rest);
                    }
                })*
                if self.none {
                    report.fine(AREA, "none, on purpose (caches.none)");
                }
            }

            /// Looks at one of them.
            ///
            /// # Errors
            /// When it cannot be looked at, or is not configured.
            pub async fn check(&self, kind: &CacheKind, beside: &Beside<'_>) -> Result<Report, CheckError> {
                match kind {
                    $(CacheKind::$Kind(with) => match &self.$name {
                        Some(section) => Section::check(section, with, beside).await,
                        None => Err(CheckError(concat!("there is no [caches.", stringify!($name), "]").to_owned())),
                    },)*
                }
            }
        }
    };
}
