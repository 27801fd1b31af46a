//! What is recorded about a finished image.

use vast_envhash::Inventory;

use super::output::BuiltImage;
use super::stack::{LayerBlob, StackLayer};
use crate::Error;
use crate::environment::touching;
use crate::layer::{IndexCache, LayerIndex};
use crate::record::{RecordedIndexes, environment, path_indexes};

impl BuiltImage {
    /// Records the path indexes of the layers, as far as they are made here, recorded already, or in `cache`.
    pub(crate) async fn record_indexes(&mut self, recorded: &RecordedIndexes, cache: &IndexCache) -> Result<(), Error> {
        let attachment = path_indexes(&self.manifest, self.layers(), recorded, cache).await?;
        if let Some(attachment) = attachment {
            self.attach(attachment);
        }
        Ok(())
    }

    /// Records the environment, where it is known.
    pub(crate) fn record_environment(&mut self, inventory: Option<&Inventory>) -> Result<(), Error> {
        if let Some(inventory) = inventory {
            let attachment = environment(&self.manifest, inventory)?;
            self.attach(attachment);
        }
        Ok(())
    }
}

impl StackLayer {
    /// Whether a layer of this build certainly leaves the environment as it is, whatever is below it.
    pub(super) fn leaves_environment(&self) -> bool {
        let LayerBlob::File(file) = &self.blob else { return false };
        LayerIndex::decode(&file.index[..]).is_ok_and(|(index, _)| touching(&index, None).is_empty())
    }
}
