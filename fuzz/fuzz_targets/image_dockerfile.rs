//! A Dockerfile is parsed or refused with a place in it, and its words are evaluated or refused; nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vast_imagegen::dockerfile::expand::{expand, expand_heredoc};
use vast_imagegen::dockerfile::{Dockerfile, Instruction, Source};

fuzz_target!(|text: &str| {
    let lines = text.lines().count().max(1);
    let dockerfile = match Dockerfile::parse("Dockerfile", text) {
        Ok(dockerfile) => dockerfile,
        Err(error) => return assert!(error.to_string().starts_with("Dockerfile:")),
    };
    let lookup = |name: &str| (!name.len().is_multiple_of(3)).then(|| name.repeat(2));
    for stage in &dockerfile.stages {
        let _ = expand(&stage.image, &lookup, dockerfile.escape);
        for instruction in &stage.instructions {
            assert!(stage.line <= instruction.line && instruction.line <= instruction.last_line);
            assert!(instruction.last_line <= lines);
            match &instruction.value {
                Instruction::Env(pairs) | Instruction::Label(pairs) => {
                    for (name, value) in pairs {
                        assert!(!name.is_empty());
                        let _ = expand(value, &lookup, dockerfile.escape);
                    }
                }
                Instruction::Copy(transfer) | Instruction::Add(transfer) => {
                    assert!(!transfer.sources.is_empty());
                    for source in &transfer.sources {
                        let _ = match source {
                            Source::Path(path) => expand(path, &lookup, dockerfile.escape),
                            Source::Heredoc(document) => expand_heredoc(&document.content, &lookup, dockerfile.escape),
                        };
                    }
                }
                _ => {}
            }
        }
    }
});
