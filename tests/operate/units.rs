//! The systemd units: systemd understands every line of them, and what they let a program do is little.

use std::fs;

use batoff_tests::{binary, scratch};

use crate::{root, tool};

const PROGRAMS: [&str; 3] = ["batoff-control", "batoff-edge", "batoff-proxy"];

/// What each cache adds to the daemon's unit.
const BESIDE: [&str; 4] = ["haproxy", "nginx", "varnish", "trafficserver"];

/// The largest exposure that `systemd-analyze security` may find: 0 is none, 10 the most.
const EXPOSURE_MAX: f64 = 2.0;

#[test]
fn systemd_understands_each_unit_with_what_each_cache_adds() {
    let dir = scratch();
    for program in PROGRAMS {
        let unit =
            fs::read_to_string(root().join("deploy/systemd").join(format!("{program}.service"))).unwrap();
        // As installed: systemd asks whether the program is there. Whether there is the user is another machine's matter.
        let there = binary(program);
        let unit = unit.replace(&format!("/usr/local/bin/{program}"), there.to_str().unwrap());
        let path = dir.path().join(format!("{program}.service"));
        fs::write(&path, unit).unwrap();
        let drop_ins: Vec<Option<&str>> = match program {
            "batoff-edge" => std::iter::once(None).chain(BESIDE.map(Some)).collect(),
            _ => vec![None],
        };
        for cache in drop_ins {
            let beside = dir.path().join(format!("{program}.service.d"));
            drop(fs::remove_dir_all(&beside));
            if let Some(cache) = cache {
                fs::create_dir(&beside).unwrap();
                let addition = root().join("deploy").join(cache).join("batoff-edge.service.conf");
                fs::copy(addition, beside.join(format!("{cache}.conf"))).unwrap();
            }
            let (_, said) = tool("systemd-analyze", &["verify", "--man=no", path.to_str().unwrap()]);
            // It looks at the whole machine's units; ours are named.
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("batoff")).collect();
            assert!(ours.is_empty(), "{program} with {cache:?}:\n{}", ours.join("\n"));
        }
    }
}

#[test]
fn a_unit_lets_its_program_do_little_else_than_its_work() {
    for program in PROGRAMS {
        let unit = format!("deploy/systemd/{program}.service");
        let (_, said) = tool("systemd-analyze", &["security", "--offline=true", "--no-pager", &unit]);
        let exposure = said.lines().find_map(|line| line.split_once("Overall exposure level for"));
        let (_, exposure) = exposure.unwrap_or_else(|| panic!("no verdict on {unit}:\n{said}"));
        let words = exposure.split_whitespace();
        let exposure = words.filter_map(|word| word.parse::<f64>().ok()).next().expect("a number");
        assert!(exposure <= EXPOSURE_MAX, "{unit}: {exposure}\n{said}");
    }
}
