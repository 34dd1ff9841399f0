//! Where do the paths of a file begin? In the folder of the file.

use super::Config;
use std::path::{Path, PathBuf};

impl Config {
    /// Makes relative paths of data begin in `folder`.
    pub(super) fn place(&mut self, folder: &Path) {
        let held_out = self.held_out.as_mut().and_then(|held_out| held_out.annotations.as_mut());
        let teacher = self.objective.distillation.as_mut().map(|teacher| &mut teacher.tokens);
        let data = [&mut self.data.annotations, &mut self.data.clouds];
        for path in data.into_iter().chain(held_out).chain(teacher) {
            *path = placed(folder, path);
        }
        // A model's name is a preset, a fetched model or a folder: only what is a folder there is taken for one.
        // The whole path, so that a run goes on from wherever one stands.
        let beside = folder.join(&self.model.start);
        if let Ok(beside) = beside.canonicalize()
            && beside.is_dir()
            && let Some(beside) = beside.to_str()
        {
            self.model.start = beside.to_owned();
        }
    }
}

fn placed(folder: &Path, path: &Path) -> PathBuf {
    if path.is_relative() { folder.join(path) } else { path.to_owned() }
}
