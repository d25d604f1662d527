//! The dashboard as a value of Grafana's own published types, which TypeScript checks.

use std::{fs, path::Path, process::Command};

use super::{ROOT, read};
use crate::support::{has_program, is_there_or};

/// Of the oldest Grafana that the dashboard is for, and of the newest one; `tests/run` installs them.
const VERSIONS: [&str; 2] = ["11.1.0", "13.2.3"];

#[test]
fn the_dashboard_has_grafanas_types() {
    let directory = Path::new(ROOT).join("target/grafana-types");
    let compiler = directory.join("node_modules/typescript/bin/tsc");
    let packages = VERSIONS.map(|version| directory.join(version));
    let there = compiler.exists() && packages.iter().all(|path| path.join("node_modules/@grafana/schema").exists());
    let message = "Grafana's types are not installed: tests/run puts them into target/grafana-types, with npm";
    if !is_there_or(there && has_program("node"), message) {
        return;
    }
    for package in packages {
        // Inside it, so that the package is found.
        let files = tempfile::tempdir_in(&package).unwrap();
        for name in ["panels.ts", "mistakes.ts"] {
            fs::write(files.path().join(name), read(&format!("tests/suite/monitoring/{name}"))).unwrap();
        }
        let dashboard = read("monitoring/dashboard.json");
        let source =
            format!("import type {{ Shipped }} from './panels';\nexport const shipped: Shipped = {dashboard};\n");
        fs::write(files.path().join("dashboard.ts"), source).unwrap();

        let mut command = Command::new("node");
        command.arg(&compiler).args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"]);
        command.args(["--module", "esnext", "--moduleResolution", "bundler", "dashboard.ts", "mistakes.ts"]);
        let output = command.current_dir(files.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", package.display());
    }
}
