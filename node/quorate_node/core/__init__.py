"""What a node decides, as pure code: handle(state, stimulus) gives the next state and instructions."""
