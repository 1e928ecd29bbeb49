"""What tests share: servers, gateways, fakes, images, polling."""
