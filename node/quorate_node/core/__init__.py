"""What a node decides, as pure code: Core.handle(stimulus) updates its state and gives instructions."""
