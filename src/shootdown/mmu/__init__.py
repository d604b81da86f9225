"""KVM's TDP MMU: what its entries mean."""
