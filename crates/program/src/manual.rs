//! What a package ships about a program, as the program itself writes it: completions for shells, and man pages.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

pub use clap_complete::Shell;

/// Where man pages say that they belong.
const MANUAL: &str = "Batoff Purge";

/// How clap's pages head the text that follows the flags; ours tells there how a program ends.
const EXTRA: &str = "\n.SH EXTRA\n";
const EXIT_STATUS: &str = "\n.SH \"EXIT STATUS\"\n";

/// Which part of the manual a program's pages belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagesOf {
    /// Commands that anybody uses (1).
    Commands,
    /// Programs that an administrator runs (8).
    Administration,
}

impl PagesOf {
    const fn number(self) -> &'static str {
        match self {
            Self::Commands => "1",
            Self::Administration => "8",
        }
    }
}

/// The completion script of a program for a shell.
pub fn completions(shell: Shell, command: &mut Command) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes a page for the program and one for each of its commands, such as `batoff-sites-list.1`, into a folder that is
/// there. The bytes follow from the command line alone: no date is in them.
///
/// # Errors
/// A page cannot be written.
pub fn write_pages(command: Command, section: PagesOf, folder: &Path) -> io::Result<()> {
    // Its own page would say what each of the others says.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_page(&command, section, folder)
}

fn write_page(command: &Command, section: PagesOf, folder: &Path) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_page(sub, section, folder)?;
    }
    let page = Man::new(command.clone()).section(section.number()).manual(MANUAL);
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = String::from_utf8_lossy(&text).replace(EXTRA, EXIT_STATUS);
    std::fs::write(folder.join(page.get_filename()), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("batoff-test")
            .about("Does nothing")
            .after_help("Exit codes: 0 done")
            .subcommand(Command::new("sites").subcommand(Command::new("list").about("All of them")))
            .subcommand(Command::new("secret").hide(true))
    }

    #[test]
    fn each_command_that_is_shown_has_a_page_of_its_section() {
        let folder = tempfile::tempdir().unwrap();
        write_pages(command(), PagesOf::Administration, folder.path()).unwrap();
        let mut pages: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|page| page.unwrap().file_name().into_string().unwrap())
            .collect();
        pages.sort();
        assert_eq!(pages, ["batoff-test-sites-list.8", "batoff-test-sites.8", "batoff-test.8"]);
        let page = std::fs::read_to_string(folder.path().join("batoff-test.8")).unwrap();
        assert!(page.contains(EXIT_STATUS) && page.contains("Exit codes: 0 done"), "{page}");
    }

    #[test]
    fn a_script_completes_the_program_by_its_name() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell, &mut command());
            assert!(script.contains("batoff-test") && script.contains("sites"), "{shell}: {script}");
        }
    }
}
