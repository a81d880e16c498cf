//! A Vulkan loader and Mesa's software driver (lavapipe): finding them, and installing them where apt and root are at
//! hand.
//!
//! macOS runs shaders on Metal and Windows on DX12 (with WARP as its software device); there is nothing to install.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

const LOADER: &str = "libvulkan.so.1";
const DEBIAN_PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];
/// Variables that replace the loader's own search for drivers; the newer name first.
const OVERRIDES: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

/// Where systems keep driver manifests, as a list of folders above `vulkan/icd.d`.
const SYSTEM: &str = "/etc/xdg:/usr/local/etc:/etc:/usr/local/share:/usr/share:/run/opengl-driver/share";

/// What is missing for shaders to run.
#[derive(Debug, PartialEq, Eq)]
enum Missing {
    /// No `libvulkan.so.1`.
    Loader,
    /// No driver manifest that names lavapipe.
    Driver,
    /// A variable tells the loader to use other drivers than lavapipe.
    Overridden { variable: &'static str, value: String },
}

/// Makes sure that the software driver can be loaded; the error says what to install or to change.
pub fn ensure() -> Result<(), String> {
    if env::consts::OS != "linux" {
        return Ok(());
    }
    match missing() {
        None => Ok(()),
        Some(Missing::Overridden { variable, value }) => {
            Err(format!("{variable}={value} names no lavapipe driver; unset it, or name Mesa's lvp_icd.*.json in it"))
        }
        Some(what) => {
            let privilege = privilege().ok_or_else(|| remedy(&what))?;
            apt_install(privilege).map_err(|error| format!("{error}\n{}", remedy(&what)))?;
            missing().map_or(Ok(()), |still| Err(remedy(&still)))
        }
    }
}

fn missing() -> Option<Missing> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    if !has_loader(&variable) {
        return Some(Missing::Loader);
    }
    missing_driver(&variable, SYSTEM)
}

fn missing_driver(variable: &dyn Fn(&str) -> Option<String>, system: &str) -> Option<Missing> {
    let added = variable("VK_ADD_DRIVER_FILES").into_iter().flat_map(|list| split(&list)).collect::<Vec<_>>();
    if let Some((name, list)) = OVERRIDES.iter().find_map(|name| variable(name).map(|list| (*name, list))) {
        let named = split(&list).iter().any(|path| holds_lavapipe(path));
        return (!named).then_some(Missing::Overridden { variable: name, value: list });
    }
    let found = added.iter().chain(&manifest_dirs(variable, system)).any(|path| holds_lavapipe(path));
    (!found).then_some(Missing::Driver)
}

fn split(list: &str) -> Vec<PathBuf> {
    env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// Folders in which the loader looks for driver manifests: the user's, those that variables name, the system's.
fn manifest_dirs(variable: &dyn Fn(&str) -> Option<String>, system: &str) -> Vec<PathBuf> {
    let home = |below: &str| variable("HOME").map(|home| format!("{home}/{below}")).unwrap_or_default();
    let lists = [
        variable("XDG_CONFIG_HOME").unwrap_or_else(|| home(".config")),
        variable("XDG_CONFIG_DIRS").unwrap_or_default(),
        variable("XDG_DATA_HOME").unwrap_or_else(|| home(".local/share")),
        variable("XDG_DATA_DIRS").unwrap_or_default(),
        system.into(),
    ];
    lists.iter().flat_map(|list| split(list)).map(|dir| dir.join("vulkan/icd.d")).collect()
}

/// Whether a manifest, or one of a folder of manifests, names a lavapipe library that is there.
fn holds_lavapipe(path: &Path) -> bool {
    if path.is_dir() {
        return entries(path)
            .iter()
            .any(|entry| entry.extension().is_some_and(|e| e == "json") && holds_lavapipe(entry));
    }
    fs::read_to_string(path).is_ok_and(|manifest| names_lavapipe(&manifest, &|library| library.exists()))
}

fn names_lavapipe(manifest: &str, exists: &dyn Fn(&Path) -> bool) -> bool {
    let value = manifest.split_once("\"library_path\"").and_then(|(_, rest)| rest.split('"').nth(1));
    value.is_some_and(|library| {
        library.contains("vulkan_lvp") && (!library.starts_with('/') || exists(Path::new(library)))
    })
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|listing| listing.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// Whether the Vulkan loader lies in a library folder or in the linker's cache.
fn has_loader(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let mut folders = variable("LD_LIBRARY_PATH").map(|list| split(&list)).unwrap_or_default();
    folders.extend(["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib"].map(PathBuf::from));
    folders
        .extend(entries(Path::new("/usr/lib")).into_iter().filter(|path| path.to_string_lossy().contains("-linux-")));
    if folders.iter().any(|folder| folder.join(LOADER).exists()) {
        return true;
    }
    let cache = ["ldconfig", "/sbin/ldconfig"].iter().find_map(|program| Command::new(program).arg("-p").output().ok());
    cache.is_some_and(|output| String::from_utf8_lossy(&output.stdout).contains(LOADER))
}

/// How packages can be installed without asking anyone.
#[derive(Clone, Copy)]
enum Privilege {
    Root,
    Sudo,
}

/// `None` where there is no apt, or neither root nor a sudo that asks for no password.
fn privilege() -> Option<Privilege> {
    if !succeeds("apt-get", &["--version"]) {
        return None;
    }
    let user = Command::new("id").arg("-u").output().ok()?;
    if user.stdout.trim_ascii() == b"0" {
        return Some(Privilege::Root);
    }
    succeeds("sudo", &["-n", "true"]).then_some(Privilege::Sudo)
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn apt_install(privilege: Privilege) -> Result<(), String> {
    let install = ["install", "-y", "--no-install-recommends", DEBIAN_PACKAGES[0], DEBIAN_PACKAGES[1]];
    eprintln!("xtask test: no software Vulkan driver; installing {}", DEBIAN_PACKAGES.join(" "));
    // A fresh machine has no package lists, and old lists name packages that are gone: fetch them and try again.
    if apt(privilege, &install).is_ok() || (apt(privilege, &["update"]).is_ok() && apt(privilege, &install).is_ok()) {
        return Ok(());
    }
    Err(format!("`apt-get {}` failed", install.join(" ")))
}

fn apt(privilege: Privilege, args: &[&str]) -> io::Result<()> {
    let prefix: &[&str] = match privilege {
        Privilege::Root => &["env"],
        Privilege::Sudo => &["sudo", "-n", "env"],
    };
    let status = Command::new(prefix[0])
        .args(&prefix[1..])
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(args)
        .stdin(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

/// What to install, for each family of Linux.
fn remedy(what: &Missing) -> String {
    let subject = match what {
        Missing::Loader => format!("no Vulkan loader ({LOADER})"),
        Missing::Driver | Missing::Overridden { .. } => "no software Vulkan driver (Mesa's lavapipe)".to_string(),
    };
    format!(
        "{subject}: the WGSL kernels cannot be tested. Install it and run this again:\n\
         \x20 Debian, Ubuntu   apt-get install mesa-vulkan-drivers libvulkan1\n\
         \x20 Fedora           dnf install mesa-vulkan-drivers vulkan-loader\n\
         \x20 Arch             pacman -S vulkan-swrast vulkan-icd-loader\n\
         macOS needs nothing: shaders run on Metal."
    )
}

#[cfg(test)]
#[path = "vulkan_tests.rs"]
mod tests;
