//! Tests of the driver search, on folders and variables made for the purpose.

use super::*;

const LAVAPIPE: &str =
    r#"{ "ICD": { "api_version": "1.3.230", "library_path": "libvulkan_lvp.so" }, "file_format_version": "1.0.0" }"#;
const RADEON: &str = r#"{ "ICD": { "api_version": "1.3.230", "library_path": "libvulkan_radeon.so" } }"#;

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("xtask-vulkan-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("vulkan/icd.d")).unwrap();
        Self(path)
    }

    fn manifest(&self, name: &str, text: &str) -> String {
        let path = self.0.join("vulkan/icd.d").join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_manifest_names_lavapipe_only_with_a_library_that_is_there() {
    let there = LAVAPIPE.replace("libvulkan_lvp.so", "/usr/lib/libvulkan_lvp.so");
    for (manifest, exists, expected) in [
        (LAVAPIPE, false, true),
        (RADEON, true, false),
        (there.as_str(), true, true),
        (there.as_str(), false, false),
        ("", true, false),
    ] {
        assert_eq!(names_lavapipe(manifest, &|_| exists), expected, "{manifest}");
    }
}

#[test]
fn the_folders_of_user_variables_and_system_are_searched() {
    let folder = Folder::new("data");
    let data = folder.0.to_str().unwrap().to_string();
    let with = |variable: &str, value: &str, system: &str| {
        missing_driver(&|name| (name == variable).then(|| value.to_string()), system)
    };
    folder.manifest("radeon_icd.x86_64.json", RADEON);
    folder.manifest("lvp_icd.txt", LAVAPIPE);
    assert_eq!(with("XDG_DATA_HOME", &data, &data), Some(Missing::Driver));
    let lavapipe = folder.manifest("lvp_icd.x86_64.json", LAVAPIPE);
    assert_eq!(with("XDG_DATA_HOME", &data, ""), None);
    assert_eq!(with("XDG_CONFIG_DIRS", &format!("/nowhere:{data}"), ""), None);
    assert_eq!(with("VK_ADD_DRIVER_FILES", &lavapipe, ""), None);
    assert_eq!(with("", "", &data), None);
}

#[test]
fn a_variable_that_names_other_drivers_is_reported_with_its_value() {
    let folder = Folder::new("override");
    let lavapipe = folder.manifest("lvp_icd.x86_64.json", LAVAPIPE);
    let radeon = folder.manifest("radeon_icd.x86_64.json", RADEON);
    for variable in OVERRIDES {
        let with = |value: &str| missing_driver(&|name| (name == variable).then(|| value.to_string()), "");
        assert_eq!(with(&format!("{radeon}:{lavapipe}")), None);
        assert_eq!(with(&radeon), Some(Missing::Overridden { variable, value: radeon.clone() }));
    }
}

#[test]
fn the_remedy_names_the_packages_of_each_family() {
    let text = remedy(&Missing::Driver);
    for package in [
        "mesa-vulkan-drivers libvulkan1",
        "mesa-vulkan-drivers vulkan-loader",
        "vulkan-swrast vulkan-icd-loader",
        "Metal",
    ] {
        assert!(text.contains(package), "{package}");
    }
}
